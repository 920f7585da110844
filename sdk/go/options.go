package taskhost

import (
	"strconv"
	"time"
)

// Option says how a task wants to be treated; a manifest may say otherwise.
type Option func(t *task)

// Unlimited is for [MaxRetries]: a task that may be retried for ever.
const Unlimited = -1

// Doc says in a line what the task does, for people.
func Doc(summary string) Option {
	return func(t *task) { t.summary = summary }
}

// Set sets an option under Celery's name. The host says if it does not know it.
func Set(name string, value any) Option {
	return func(t *task) {
		text, err := encode(value)
		if err != nil {
			t.mistake("option %s: %v", name, err)
			return
		}
		t.options = append(t.options, setting{name, text})
	}
}

// MaxRetries is how often the task may be retried. Celery's own number is 3.
func MaxRetries(retries int) Option {
	if retries == Unlimited {
		return Set("max_retries", nil)
	}
	return Set("max_retries", retries)
}

// DefaultRetryDelay is how long a retry waits that does not say.
func DefaultRetryDelay(delay time.Duration) Option {
	return Set("default_retry_delay", seconds(delay))
}

// AutoretryFor names the classes of exceptions after which the task is retried.
func AutoretryFor(classes ...string) Option {
	return Set("autoretry_for", classes)
}

// RetryBackoff makes the delays of automatic retries grow.
func RetryBackoff(on bool) Option {
	return Set("retry_backoff", on)
}

// RetryBackoffMax is the longest that an automatic retry waits.
func RetryBackoffMax(delay time.Duration) Option {
	return Set("retry_backoff_max", seconds(delay))
}

// RetryJitter makes the delays of automatic retries random.
func RetryJitter(on bool) Option {
	return Set("retry_jitter", on)
}

// TimeLimit is when the task is stopped.
func TimeLimit(limit time.Duration) Option {
	return Set("time_limit", seconds(limit))
}

// SoftTimeLimit is when the task is told to end, or, unless it has [HandlesSoftLimit], stopped with
// SoftTimeLimitExceeded.
func SoftTimeLimit(limit time.Duration) Option {
	return Set("soft_time_limit", seconds(limit))
}

// HandlesSoftLimit says that the task looks at [Context.Cancelled], or waits for [Context.Done].
func HandlesSoftLimit() Option {
	return Set("handles_soft_limit", true)
}

// RateLimit is how many of them may start in a time, such as "10/m".
func RateLimit(rate string) Option {
	return Set("rate_limit", rate)
}

// AcksLate says whether the message is acknowledged after the task instead of before it.
func AcksLate(on bool) Option {
	return Set("acks_late", on)
}

// IgnoreResult says whether nobody wants to know the result.
func IgnoreResult(on bool) Option {
	return Set("ignore_result", on)
}

// TrackStarted says whether clients see the state STARTED.
func TrackStarted(on bool) Option {
	return Set("track_started", on)
}

// Queue is where those who call the task send it by themselves.
func Queue(name string) Option {
	return Set("queue", name)
}

// seconds are a duration as Celery writes it.
func seconds(duration time.Duration) JSON {
	return JSON(strconv.FormatFloat(duration.Seconds(), 'g', -1, 64))
}
