package host

import (
	"unsafe"

	"taskhost.dev/taskhost/internal/abi"
)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 open
func storeOpen(name string, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.get
func bucketGet(bucket uint32, key string, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.set
func bucketSet(bucket uint32, key, value string, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.delete
func bucketDelete(bucket uint32, key string, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.exists
func bucketExists(bucket uint32, key string, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [method]bucket.list-keys
func bucketListKeys(bucket, some uint32, cursor string, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/store@0.2.0-draft2 [resource-drop]bucket
func bucketDrop(bucket uint32)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 increment
func atomicsIncrement(bucket uint32, key string, delta int64, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [static]cas.new
func casNew(bucket uint32, key string, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [method]cas.current
func casCurrent(cas uint32, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 swap
func atomicsSwap(cas uint32, value string, answer unsafe.Pointer)

//go:wasmimport wasi:keyvalue/atomics@0.2.0-draft2 [resource-drop]cas
func casDrop(cas uint32)

// Bucket is an open bucket.
type Bucket struct {
	handle uint32
}

// OpenBucket opens the bucket of that name.
func OpenBucket(name string) (Bucket, *Fault) {
	storeOpen(name, abi.Answer())
	if fault := done(); fault != nil {
		return Bucket{}, fault
	}
	return Bucket{abi.Word(4)}, nil
}

// Close gives the bucket back.
func (b Bucket) Close() {
	bucketDrop(b.handle)
}

// Get gives the value under a key, or none.
func (b Bucket) Get(key string) ([]byte, bool, *Fault) {
	bucketGet(b.handle, key, abi.Answer())
	return value()
}

// Set puts a value under a key.
func (b Bucket) Set(key, value string) *Fault {
	bucketSet(b.handle, key, value, abi.Answer())
	return done()
}

// Delete takes a value away.
func (b Bucket) Delete(key string) *Fault {
	bucketDelete(b.handle, key, abi.Answer())
	return done()
}

// Exists is true if there is a value.
func (b Bucket) Exists(key string) (bool, *Fault) {
	bucketExists(b.handle, key, abi.Answer())
	if fault := done(); fault != nil {
		return false, fault
	}
	return abi.Byte(4) != 0, nil
}

// Keys gives some keys, and where to go on.
func (b Bucket) Keys(cursor *string) ([]string, *string, *Fault) {
	var from string
	if cursor != nil {
		from = *cursor
	}
	bucketListKeys(b.handle, flag(cursor != nil), from, abi.Answer())
	if fault := done(); fault != nil {
		return nil, nil, fault
	}
	keys := abi.Texts(4)
	var next *string
	if abi.Byte(12) != 0 {
		cursor := abi.Text(16)
		next = &cursor
	}
	abi.Free()
	return keys, next, nil
}

// Increment adds to a number.
func (b Bucket) Increment(key string, delta int64) (int64, *Fault) {
	atomicsIncrement(b.handle, key, delta, abi.Answer())
	if abi.Byte(0) != 0 {
		return 0, fault(8)
	}
	return int64(abi.Long(8)), nil
}

// Watch remembers what is under a key, for [Swap].
func (b Bucket) Watch(key string) (Cas, *Fault) {
	casNew(b.handle, key, abi.Answer())
	if fault := done(); fault != nil {
		return Cas{}, fault
	}
	return Cas{abi.Word(4)}, nil
}

// Cas is what a value was.
type Cas struct {
	handle uint32
}

// Close gives it back.
func (c Cas) Close() {
	casDrop(c.handle)
}

// Current gives what the value was.
func (c Cas) Current() ([]byte, bool, *Fault) {
	casCurrent(c.handle, abi.Answer())
	return value()
}

// Swap puts another value there, unless somebody else was faster: then it gives what he left. It takes c either way.
func (c Cas) Swap(value string) (*Cas, *Fault) {
	atomicsSwap(c.handle, value, abi.Answer())
	switch {
	case abi.Byte(0) == 0:
		return nil, nil
	case abi.Byte(4) == 0:
		return nil, fault(8)
	default:
		return &Cas{abi.Word(8)}, nil
	}
}

// value reads a result that is bytes or nothing.
func value() ([]byte, bool, *Fault) {
	if fault := done(); fault != nil {
		return nil, false, fault
	}
	if abi.Byte(4) == 0 {
		return nil, false, nil
	}
	return taken(abi.Bytes(8)), true, nil
}
