//go:build !wasip1

package host

import "sync/atomic"

// Double stands in for a host where there is none: in tests.
type Double interface {
	Request() string
	Cancelled() bool
	RemainingMs() uint64
	UpdateState(state, meta string) *Fault
	SendEvent(kind, fields string) *Fault
	Secret(name string) (string, *Fault)
	Publish(signature string, now bool) (string, *Fault)
	Apply(signature, args, kwargs string, now bool) (string, *Fault)
	AddToChord(signature string, now bool) (string, *Fault)
	Result(id string) (string, *Fault)
	Wait(id string, timeoutMs uint64) (string, *Fault)
	Config(key string) (string, bool, *Fault)
	OpenBucket(name string) (map[string][]byte, *Fault)
	Log(level Level, context, message string)
}

var double atomic.Pointer[Double]

// Use makes one stand in from now on, and gives what takes it away again.
func Use(stand Double) (restore func()) {
	before := double.Swap(&stand)
	return func() { double.Store(before) }
}

func current() Double {
	if stand := double.Load(); stand != nil {
		return *stand
	}
	return nil
}

// The functions of the interface. Without a double a request is empty, nothing is cancelled and time has no end;
// states, events and lines of the log go nowhere.

func Request() string {
	if stand := current(); stand != nil {
		return stand.Request()
	}
	return "{}"
}

func Cancelled() bool {
	stand := current()
	return stand != nil && stand.Cancelled()
}

func RemainingMs() uint64 {
	if stand := current(); stand != nil {
		return stand.RemainingMs()
	}
	return ^uint64(0)
}

func UpdateState(state, meta string) *Fault {
	if stand := current(); stand != nil {
		return stand.UpdateState(state, meta)
	}
	return nil
}

func SendEvent(kind, fields string) *Fault {
	if stand := current(); stand != nil {
		return stand.SendEvent(kind, fields)
	}
	return nil
}

func Secret(name string) (string, *Fault) {
	if stand := current(); stand != nil {
		return stand.Secret(name)
	}
	return "", &Fault{0, "secret `" + name + "` is lent by a host, and this is none"}
}

func Publish(signature string, now bool) (string, *Fault) {
	if stand := current(); stand != nil {
		return stand.Publish(signature, now)
	}
	return "", unpublished()
}

func Apply(signature, args, kwargs string, now bool) (string, *Fault) {
	if stand := current(); stand != nil {
		return stand.Apply(signature, args, kwargs, now)
	}
	return "", unpublished()
}

func AddToChord(signature string, now bool) (string, *Fault) {
	if stand := current(); stand != nil {
		return stand.AddToChord(signature, now)
	}
	return "", unpublished()
}

func unpublished() *Fault {
	return &Fault{PublishUnavailable, "calls are published by a host, and this is none"}
}

func Result(id string) (string, *Fault) {
	if stand := current(); stand != nil {
		return stand.Result(id)
	}
	return "", unknown()
}

func Wait(id string, timeoutMs uint64) (string, *Fault) {
	if stand := current(); stand != nil {
		return stand.Wait(id, timeoutMs)
	}
	return "", unknown()
}

func unknown() *Fault {
	return &Fault{ResultUnavailable, "results are kept by a host, and this is none"}
}

func Config(key string) (string, bool, *Fault) {
	if stand := current(); stand != nil {
		return stand.Config(key)
	}
	return "", false, &Fault{0, "config `" + key + "` is lent by a host, and this is none"}
}

func Log(level Level, context, message string) {
	if stand := current(); stand != nil {
		stand.Log(level, context, message)
	}
}
