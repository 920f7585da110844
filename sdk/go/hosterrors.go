package taskhost

import "taskhost.dev/taskhost/internal/host"

// DeniedError says that the plugin may not have or see something. The text names what is missing, and where.
type DeniedError struct{ Text string }

// InvalidError says that something can never be published, stored or asked for.
type InvalidError struct{ Text string }

// LimitedError says that the task does more than the operator allows. The text names the limit.
type LimitedError struct{ Text string }

// UnavailableError says that a broker or a store is away, or did not answer in time. Later it may.
type UnavailableError struct{ Text string }

// UnpublishedError says that a call is published when this task has succeeded, so it cannot be waited for.
type UnpublishedError struct{ Text string }

// TimedOutError says that another task was not done in time.
type TimedOutError struct{ Text string }

// CancelledError says that this task is to come to an end.
type CancelledError struct{ Text string }

// BucketError says that a bucket cannot be had, or did not answer.
type BucketError struct{ Text string }

func (e *DeniedError) Error() string      { return e.Text }
func (e *InvalidError) Error() string     { return e.Text }
func (e *LimitedError) Error() string     { return e.Text }
func (e *UnavailableError) Error() string { return e.Text }
func (e *UnpublishedError) Error() string { return e.Text }
func (e *TimedOutError) Error() string    { return e.Text }
func (e *CancelledError) Error() string   { return e.Text }
func (e *BucketError) Error() string      { return e.Text }

func updateError(fault *host.Fault) error {
	switch {
	case fault == nil:
		return nil
	case fault.Case == host.UpdateInvalid:
		return &InvalidError{fault.Text}
	case fault.Case == host.UpdateLimited:
		return &LimitedError{fault.Text}
	}
	return &UnavailableError{fault.Text}
}

func publishError(fault *host.Fault) error {
	switch {
	case fault == nil:
		return nil
	case fault.Case == host.PublishDenied:
		return &DeniedError{fault.Text}
	case fault.Case == host.PublishInvalid:
		return &InvalidError{fault.Text}
	case fault.Case == host.PublishLimited:
		return &LimitedError{fault.Text}
	}
	return &UnavailableError{fault.Text}
}

func resultError(fault *host.Fault) error {
	switch {
	case fault == nil:
		return nil
	case fault.Case == host.ResultDenied:
		return &DeniedError{fault.Text}
	case fault.Case == host.ResultInvalid:
		return &InvalidError{fault.Text}
	case fault.Case == host.ResultUnpublished:
		return &UnpublishedError{fault.Text}
	case fault.Case == host.ResultTimedOut:
		return &TimedOutError{fault.Text}
	case fault.Case == host.ResultCancelled:
		return &CancelledError{fault.Text}
	}
	return &UnavailableError{fault.Text}
}
