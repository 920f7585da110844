//go:build !wasip1

package host

import (
	"slices"
	"strconv"
)

// Bucket is a map that the double keeps.
type Bucket struct {
	values map[string][]byte
}

// Cas is what was under a key.
type Cas struct {
	bucket Bucket
	key    string
	value  []byte
	some   bool
}

func OpenBucket(name string) (Bucket, *Fault) {
	stand := current()
	if stand == nil {
		return Bucket{}, &Fault{BucketOther, "bucket `" + name + "` is kept by a host, and this is none"}
	}
	values, fault := stand.OpenBucket(name)
	return Bucket{values}, fault
}

func (b Bucket) Close() {}

func (b Bucket) Get(key string) ([]byte, bool, *Fault) {
	value, some := b.values[key]
	return slices.Clone(value), some, nil
}

func (b Bucket) Set(key, value string) *Fault {
	b.values[key] = []byte(value)
	return nil
}

func (b Bucket) Delete(key string) *Fault {
	delete(b.values, key)
	return nil
}

func (b Bucket) Exists(key string) (bool, *Fault) {
	_, some := b.values[key]
	return some, nil
}

func (b Bucket) Keys(*string) ([]string, *string, *Fault) {
	keys := make([]string, 0, len(b.values))
	for key := range b.values {
		keys = append(keys, key)
	}
	return keys, nil, nil
}

func (b Bucket) Increment(key string, delta int64) (int64, *Fault) {
	number := int64(0)
	if value, some := b.values[key]; some {
		read, err := strconv.ParseInt(string(value), 10, 64)
		if err != nil {
			return 0, &Fault{BucketOther, "the value of `" + key + "` is no number"}
		}
		number = read
	}
	b.values[key] = strconv.AppendInt(nil, number+delta, 10)
	return number + delta, nil
}

func (b Bucket) Watch(key string) (Cas, *Fault) {
	value, some, _ := b.Get(key)
	return Cas{b, key, value, some}, nil
}

func (c Cas) Close() {}

func (c Cas) Current() ([]byte, bool, *Fault) {
	return c.value, c.some, nil
}

func (c Cas) Swap(value string) (*Cas, *Fault) {
	now, some, _ := c.bucket.Get(c.key)
	if some != c.some || string(now) != string(c.value) {
		return &Cas{c.bucket, c.key, now, some}, nil
	}
	return nil, c.bucket.Set(c.key, value)
}
