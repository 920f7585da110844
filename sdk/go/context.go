package taskhost

import (
	"context"
	"math"
	"sync"
	"time"

	"taskhost.dev/taskhost/internal/host"
)

// Context is the call that a task serves. It is a [context.Context] as well: it is done when [Context.Cancelled] is true,
// and its deadline is the hard time limit.
type Context struct {
	id      string
	task    string
	retries int

	mutex    sync.Mutex
	request  map[string]any
	deadline time.Time
	done     chan struct{}
	over     chan struct{}
}

var _ context.Context = (*Context)(nil)

// NewContext is the context of a call. Outside of a host, as in a test, the request is empty, nothing is cancelled and
// time has no end, unless package taskhosttest says otherwise.
func NewContext(id, task string, retries int) *Context {
	return &Context{id: id, task: task, retries: retries}
}

// ID is the task id that the client chose.
func (c *Context) ID() string { return c.id }

// Task is the name of the task.
func (c *Context) Task() string { return c.task }

// Retries is how often this task was retried before.
func (c *Context) Retries() int { return c.retries }

// Request gives all facts about this execution under Celery's names (root_id, group, eta, headers, ..). It is fetched
// when first asked for, and kept. Numbers in it are json.Number.
func (c *Context) Request() map[string]any {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.request == nil {
		c.request = map[string]any{}
		if err := c.RequestJSON().Parse(&c.request); err != nil {
			// Odd tokens in somebody's headers hide what holds them, and nothing else.
			_ = objectMembers(host.Request(), func(name, text string) {
				var value any
				if JSON(text).Parse(&value) == nil {
					c.request[name] = value
				}
			})
		}
	}
	return c.request
}

// RequestJSON gives the same as text, as the host wrote it.
func (c *Context) RequestJSON() JSON {
	return JSON(host.Request())
}

// Cancelled is true once the task should come to an end: its soft time limit has passed, it was revoked, or the worker
// is stopping at once. Only a task with the option [HandlesSoftLimit] gets to see it. It then has until its hard time
// limit, in the other cases some seconds. However it ends by then counts; one that wants to be run again returns
// [Reject](true).
func (c *Context) Cancelled() bool {
	return host.Cancelled()
}

// Remaining is how long it is until the hard time limit.
func (c *Context) Remaining() time.Duration {
	return time.Duration(min(host.RemainingMs(), math.MaxInt64/uint64(time.Millisecond))) * time.Millisecond
}

// UpdateState gives the task a state that clients see as AsyncResult.state and .info until the next one or its end:
// Celery's update_state. SUCCESS, FAILURE, REVOKED and RETRY are refused, since they follow from how the task ends.
// The task may go on whatever the error says: [InvalidError], [LimitedError] or [UnavailableError].
//
// Of many updates in a short time the host stores the last, and then does not make the task wait.
func (c *Context) UpdateState(state string, meta any) error {
	text, err := encode(meta)
	if err != nil {
		return &InvalidError{"the meta is " + err.Error()}
	}
	return updateError(host.UpdateState(state, text))
}

// Progress tells clients how far the task is: the state PROGRESS with current and total, as is the custom with Celery.
// A task need not care whether it could be stored; UpdateState tells one that does.
func (c *Context) Progress(current, total int) {
	_ = c.UpdateState("PROGRESS", map[string]JSON{"current": number(current), "total": number(total)})
}

// SendEvent tells monitors something about this task besides what the worker tells them: Celery's send_event. The kind is
// one of your own, such as task-indexed; the fields are whatever becomes a JSON object. Monitors get it at once; if the
// worker sends no events, or nobody listens, nothing happens.
func (c *Context) SendEvent(kind string, fields any) error {
	text, err := encode(fields)
	if err != nil {
		return &InvalidError{"the fields are " + err.Error()}
	}
	return updateError(host.SendEvent(kind, text))
}

// Deadline is when the hard time limit is over.
func (c *Context) Deadline() (deadline time.Time, ok bool) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.deadline.IsZero() {
		remaining := c.Remaining()
		if remaining > math.MaxInt64/2 {
			return time.Time{}, false
		}
		c.deadline = time.Now().Add(remaining)
	}
	return c.deadline, true
}

// How often somebody who waits for Done looks.
const doneInterval = 20 * time.Millisecond

// Done is closed once [Context.Cancelled] is true, while the task waits for something or sleeps. A task that computes
// all the time asks Cancelled or Err: nobody looks for it meanwhile.
func (c *Context) Done() <-chan struct{} {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.done == nil {
		c.done, c.over = make(chan struct{}), make(chan struct{})
		go c.watch(c.done, c.over)
	}
	return c.done
}

func (c *Context) watch(done, over chan struct{}) {
	ticks := time.NewTicker(doneInterval)
	defer ticks.Stop()
	for {
		select {
		case <-over:
			return
		default:
		}
		if c.Cancelled() {
			close(done)
			return
		}
		select {
		case <-over:
			return
		case <-ticks.C:
		}
	}
}

// Err is context.Canceled once [Context.Cancelled] is true.
func (c *Context) Err() error {
	if c.Cancelled() {
		return context.Canceled
	}
	return nil
}

// Value gives nothing.
func (c *Context) Value(any) any { return nil }

// end stops whoever watches: an instance may have other attempts after this one.
func (c *Context) end() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.over != nil {
		close(c.over)
		c.over = nil
	}
}
