// Package host is what a task may ask of the host that runs it: the interface of Taskhost, function by function.
//
// It decides nothing and converts nothing: JSON goes through as text. Outside of a host [Double] stands in for one.
package host

// Fault is an error as the host says it: one of the cases of the interface, and a text.
type Fault struct {
	Case uint8
	Text string
}

// Cases of update-error; event-error has the first two.
const (
	UpdateInvalid = iota
	UpdateLimited
	UpdateUnavailable
)

// Cases of publish-error.
const (
	PublishDenied = iota
	PublishInvalid
	PublishLimited
	PublishUnavailable
)

// Cases of result-error.
const (
	ResultDenied = iota
	ResultInvalid
	ResultUnpublished
	ResultTimedOut
	ResultCancelled
	ResultUnavailable
)

// Cases of wasi:keyvalue's error.
const (
	BucketUnknown = iota
	BucketDenied
	BucketOther
)

// Level of a line of the log.
type Level int32

// The levels of wasi:logging.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
	Critical
)
