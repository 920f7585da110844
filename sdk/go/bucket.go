package taskhost

import (
	"slices"

	"taskhost.dev/taskhost/internal/host"
)

// Bucket keeps values from one task to the next. What it is called is declared under keyvalue in [needs] of plugin.toml;
// where it is, is the operator's business. Nobody but the plugin sees what is in it.
type Bucket struct {
	bucket host.Bucket
}

// OpenBucket opens the bucket of that name. It stays open until [Bucket.Close], or the end of the instance.
func OpenBucket(name string) (*Bucket, error) {
	bucket, fault := host.OpenBucket(name)
	if fault != nil {
		return nil, bucketError(fault)
	}
	return &Bucket{bucket}, nil
}

// Close gives the bucket back.
func (b *Bucket) Close() {
	b.bucket.Close()
}

// Get gives the value under a key, and whether there is one.
func (b *Bucket) Get(key string) (value []byte, ok bool, err error) {
	value, ok, fault := b.bucket.Get(key)
	return value, ok, bucketError(fault)
}

// Set puts a value under a key, whatever was there.
func (b *Bucket) Set(key string, value []byte) error {
	return bucketError(b.bucket.Set(key, string(value)))
}

// Delete takes a value away, if it is there.
func (b *Bucket) Delete(key string) error {
	return bucketError(b.bucket.Delete(key))
}

// Exists is true if there is a value under the key.
func (b *Bucket) Exists(key string) (bool, error) {
	exists, fault := b.bucket.Exists(key)
	return exists, bucketError(fault)
}

// Keys gives all keys, in their order. Those that come and go meanwhile may be missed.
func (b *Bucket) Keys() ([]string, error) {
	var all []string
	var cursor *string
	for {
		keys, next, fault := b.bucket.Keys(cursor)
		if fault != nil {
			return nil, bucketError(fault)
		}
		all = append(all, keys...)
		if next == nil {
			slices.Sort(all)
			return slices.Compact(all), nil
		}
		cursor = next
	}
}

// Increment adds to the number under a key, which is zero if there is none, and gives the sum. In one step.
func (b *Bucket) Increment(key string, delta int64) (int64, error) {
	sum, fault := b.bucket.Increment(key, delta)
	return sum, bucketError(fault)
}

// Update puts what change makes of a value, nil if there is none, in its place. If somebody else was faster, change is
// called again with what he left. With nil it gives up, and Update is false.
func (b *Bucket) Update(key string, change func(value []byte) []byte) (bool, error) {
	cas, fault := b.bucket.Watch(key)
	if fault != nil {
		return false, bucketError(fault)
	}
	for {
		value, some, fault := cas.Current()
		if fault != nil {
			cas.Close()
			return false, bucketError(fault)
		}
		if some && value == nil {
			value = []byte{}
		}
		changed := change(value)
		if changed == nil {
			cas.Close()
			return false, nil
		}
		faster, fault := cas.Swap(string(changed))
		if fault != nil {
			return false, bucketError(fault)
		}
		if faster == nil {
			return true, nil
		}
		cas = *faster
	}
}

func bucketError(fault *host.Fault) error {
	if fault == nil {
		return nil
	}
	switch fault.Case {
	case host.BucketUnknown:
		return &BucketError{"there is no such bucket"}
	case host.BucketDenied:
		return &DeniedError{"the bucket is denied"}
	}
	return &BucketError{fault.Text}
}
