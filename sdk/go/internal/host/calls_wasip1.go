package host

import (
	"unsafe"

	"taskhost.dev/taskhost/internal/abi"
)

//go:wasmimport taskhost:task/context@0.1.0 request
func contextRequest(answer unsafe.Pointer)

//go:wasmimport taskhost:task/context@0.1.0 cancelled
func contextCancelled() uint32

//go:wasmimport taskhost:task/context@0.1.0 remaining-ms
func contextRemaining() uint64

//go:wasmimport taskhost:task/context@0.1.0 update-state
func contextUpdateState(state, meta string, answer unsafe.Pointer)

//go:wasmimport taskhost:task/context@0.1.0 send-event
func contextSendEvent(kind, fields string, answer unsafe.Pointer)

//go:wasmimport taskhost:task/secrets@0.1.0 get
func secretsGet(name string, answer unsafe.Pointer)

//go:wasmimport taskhost:task/publish@0.1.0 send
func publishSend(signature string, answer unsafe.Pointer)

//go:wasmimport taskhost:task/publish@0.1.0 immediately
func publishImmediately(signature string, answer unsafe.Pointer)

//go:wasmimport taskhost:task/publish@0.1.0 apply
func publishApply(signature, args, kwargs string, immediately uint32, answer unsafe.Pointer)

//go:wasmimport taskhost:task/publish@0.1.0 add-to-chord
func publishAddToChord(signature string, immediately uint32, answer unsafe.Pointer)

//go:wasmimport taskhost:task/results@0.1.0 get
func resultsGet(id string, answer unsafe.Pointer)

//go:wasmimport taskhost:task/results@0.1.0 wait
func resultsWait(id string, timeout uint64, answer unsafe.Pointer)

//go:wasmimport wasi:config/store@0.2.0-draft get
func configGet(key string, answer unsafe.Pointer)

//go:wasmimport wasi:logging/logging@0.1.0-draft log
func loggingLog(level uint32, context, message string)

// Request gives all facts about this execution.
func Request() string {
	contextRequest(abi.Answer())
	return taken(abi.Text(0))
}

// Cancelled is true once the task should come to an end.
func Cancelled() bool {
	return contextCancelled() != 0
}

// RemainingMs gives the milliseconds until the hard time limit.
func RemainingMs() uint64 {
	return contextRemaining()
}

// UpdateState stores a state of the task.
func UpdateState(state, meta string) *Fault {
	contextUpdateState(state, meta, abi.Answer())
	return done()
}

// SendEvent tells monitors something.
func SendEvent(kind, fields string) *Fault {
	contextSendEvent(kind, fields, abi.Answer())
	return done()
}

// Secret gives what the operator lends.
func Secret(name string) (string, *Fault) {
	secretsGet(name, abi.Answer())
	return text()
}

// Publish publishes a signature, now or once the task has succeeded.
func Publish(signature string, now bool) (string, *Fault) {
	if now {
		publishImmediately(signature, abi.Answer())
	} else {
		publishSend(signature, abi.Answer())
	}
	return text()
}

// Apply publishes a canvas and gives where its results will be.
func Apply(signature, args, kwargs string, now bool) (string, *Fault) {
	publishApply(signature, args, kwargs, flag(now), abi.Answer())
	return text()
}

// AddToChord adds to the chord that the task is in.
func AddToChord(signature string, now bool) (string, *Fault) {
	publishAddToChord(signature, flag(now), abi.Answer())
	return text()
}

// Result gives what is known about a task.
func Result(id string) (string, *Fault) {
	resultsGet(id, abi.Answer())
	return text()
}

// Wait gives the same once the task is done.
func Wait(id string, timeoutMs uint64) (string, *Fault) {
	resultsWait(id, timeoutMs, abi.Answer())
	return text()
}

// Config gives a setting, and whether it has a value.
func Config(key string) (string, bool, *Fault) {
	configGet(key, abi.Answer())
	if abi.Byte(0) != 0 {
		return "", false, fault(4)
	}
	if abi.Byte(4) == 0 {
		return "", false, nil
	}
	return taken(abi.Text(8)), true, nil
}

// Log writes a line.
func Log(level Level, context, message string) {
	loggingLog(uint32(level), context, message)
}

// done reads a result without a value.
func done() *Fault {
	if abi.Byte(0) == 0 {
		return nil
	}
	return fault(4)
}

// text reads a result that is a text.
func text() (string, *Fault) {
	if abi.Byte(0) != 0 {
		return "", fault(4)
	}
	return taken(abi.Text(4)), nil
}

// fault reads an error, whose cases have a text each.
func fault(at uintptr) *Fault {
	return &Fault{abi.Byte(at), taken(abi.Text(at + 4))}
}

// taken is called with everything that was copied.
func taken[T any](value T) T {
	abi.Free()
	return value
}

func flag(is bool) uint32 {
	if is {
		return 1
	}
	return 0
}
