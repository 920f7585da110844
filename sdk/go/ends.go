package taskhost

import (
	"errors"
	"time"
)

// Retry is the wish to be run once more, under the same id. A task returns it as its error:
//
//	return nil, taskhost.NewRetry().Countdown(5 * time.Second).Cause(err)
type Retry struct {
	countdown  *float64
	eta        string
	maxRetries *uint32
	args       *JSON
	kwargs     *JSON
	cause      error
	// broken is why its arguments cannot be sent: the task then fails with it.
	broken error
}

// NewRetry is a retry after the task's default_retry_delay.
func NewRetry() *Retry {
	return &Retry{}
}

// Countdown says after which time it is due.
func (r *Retry) Countdown(delay time.Duration) *Retry {
	seconds := delay.Seconds()
	r.countdown, r.eta = &seconds, ""
	return r
}

// ETA says at which time it is due.
func (r *Retry) ETA(at time.Time) *Retry {
	r.countdown, r.eta = nil, at.UTC().Format("2006-01-02T15:04:05.999999Z07:00")
	return r
}

// MaxRetries says how many retries the task may have, in place of its own limit.
func (r *Retry) MaxRetries(retries uint32) *Retry {
	r.maxRetries = &retries
	return r
}

// Args are other positional arguments.
func (r *Retry) Args(args ...any) *Retry {
	r.args = r.json(list(args))
	return r
}

// Kwargs are other keyword arguments: a map or a struct.
func (r *Retry) Kwargs(kwargs any) *Retry {
	r.kwargs = r.json(encode(kwargs))
	return r
}

// Cause says why: it is stored with the state RETRY, and is the failure once no retry is left.
func (r *Retry) Cause(cause error) *Retry {
	r.cause = cause
	return r
}

// Error says that it is a retry.
func (r *Retry) Error() string {
	if r.cause != nil {
		return "retry: " + r.cause.Error()
	}
	return "retry"
}

// Unwrap gives the cause.
func (r *Retry) Unwrap() error {
	return r.cause
}

func (r *Retry) json(text string, err error) *JSON {
	if err != nil {
		r.broken = errors.Join(r.broken, err)
	}
	json := JSON(text)
	return &json
}

// Reject gives the message back to the broker, to be delivered again or not, when a task returns it.
func Reject(requeue bool) error {
	return &rejection{requeue}
}

// Ignore ends a task with nothing stored or announced, when it returns this.
func Ignore() error {
	return &ignored{}
}

// Replace puts another call, or canvas, in the place of the task that returns it: who waits for this one gets the result
// of the other.
func Replace(signature *Signature) error {
	return &replacement{signature}
}

type rejection struct{ requeue bool }

func (r *rejection) Error() string { return "reject" }

type ignored struct{}

func (i *ignored) Error() string { return "ignore" }

type replacement struct{ signature *Signature }

func (r *replacement) Error() string { return "replaced by " + r.signature.Task() }

// list writes arguments as a JSON array.
func list(args []any) (string, error) {
	texts := make([]JSON, len(args))
	for i, arg := range args {
		text, err := encode(arg)
		if err != nil {
			return "[]", err
		}
		texts[i] = JSON(text)
	}
	return joinArray(texts), nil
}
