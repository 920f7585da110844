package taskhost

import (
	"errors"
	"strconv"
	"time"

	"taskhost.dev/taskhost/internal/host"
)

// AsyncResult is where the result of a call will be: of a task, or of a group of them. It is Celery's AsyncResult and
// GroupResult: a task that returns one gives its client what AsyncResult was made for, and one that gets one as an
// argument knows where to look.
type AsyncResult struct {
	id string
	// tuple is Celery's [[id, parent], children]. Parents may be many, so they are read when somebody asks.
	tuple string
}

var errNoResult = errors.New("not the result of a call: no [[id, parent], children]")

// ID is the id of the task; of a chain that of its last step, of a chord that of its body; of a group its own.
func (r *AsyncResult) ID() string { return r.id }

// Parent is what comes before it: the step before in a chain, or the header of a chord. Nil if there is nothing.
func (r *AsyncResult) Parent() *AsyncResult {
	this, _, _ := pair(r.tuple)
	_, parent, _ := pair(this)
	read, err := readResult(parent)
	if err != nil {
		return nil
	}
	return read
}

// Children are the members of a group, in order, and whether it is one.
func (r *AsyncResult) Children() (children []*AsyncResult, isGroup bool) {
	_, texts, _ := pair(r.tuple)
	children = []*AsyncResult{}
	var broken error
	err := arrayElements(texts, func(text string) {
		child, err := readResult(text)
		broken = errors.Join(broken, err)
		children = append(children, child)
	})
	if err != nil || broken != nil {
		return nil, false
	}
	return children, true
}

// MarshalJSON gives Celery's tuple.
func (r *AsyncResult) MarshalJSON() ([]byte, error) { return []byte(r.tuple), nil }

// UnmarshalJSON reads Celery's tuple.
func (r *AsyncResult) UnmarshalJSON(text []byte) error {
	read, err := readResult(string(text))
	if err == nil {
		*r = *read
	}
	return err
}

func readResult(text string) (*AsyncResult, error) {
	this, _, ok := pair(text)
	if !ok {
		return nil, errNoResult
	}
	quoted, _, ok := pair(this)
	if !ok {
		return nil, errNoResult
	}
	id, ok := unquote(quoted)
	if !ok {
		return nil, errNoResult
	}
	return &AsyncResult{id, text}, nil
}

// pair gives the two elements of an array.
func pair(text string) (first, second string, ok bool) {
	var found []string
	err := arrayElements(text, func(element string) { found = append(found, element) })
	if err != nil || len(found) != 2 {
		return "", "", false
	}
	return found[0], found[1], true
}

// TaskResult is what is known about a task.
type TaskResult struct {
	// State is Celery's name of it; PENDING, if nothing is known.
	State string
	// Result is what it returned; of a failure Celery's map of the exception.
	Result JSON
	// Traceback is that of a failure.
	Traceback string
	// Meta is everything, as the host told it.
	Meta JSON
}

// Success is true once it has returned.
func (r *TaskResult) Success() bool { return r.State == "SUCCESS" }

// Ready is true once it will not change any more.
func (r *TaskResult) Ready() bool {
	return r.State == "SUCCESS" || r.State == "FAILURE" || r.State == "REVOKED"
}

// Result gives what is known about a task that this one called. Declared under results in [needs].
func (c *Context) Result(id string) (*TaskResult, error) {
	return taskResult(host.Result(id))
}

// Wait waits until a task is done that was called with [Context.PublishNow]. This task keeps its slot meanwhile: a worker
// all of whose tasks wait for others that it alone could run does nothing.
func (c *Context) Wait(id string, timeout time.Duration) (*TaskResult, error) {
	return taskResult(host.Wait(id, uint64(max(timeout.Milliseconds(), 0))))
}

// Join waits for what was called with [Context.ApplyNow], and gives the results of all members of a group, in order, those
// of a group in it in its place; of a task it gives its own. The time is for all of them together.
func (c *Context) Join(result *AsyncResult, timeout time.Duration) ([]*TaskResult, error) {
	end := time.Now().Add(timeout)
	if children, isGroup := result.Children(); isGroup {
		var joined []*TaskResult
		for _, child := range children {
			more, err := c.Join(child, time.Until(end))
			if err != nil {
				return nil, err
			}
			joined = append(joined, more...)
		}
		return joined, nil
	}
	told, err := c.Wait(result.ID(), timeout)
	if err != nil {
		return nil, err
	}
	return []*TaskResult{told}, nil
}

func taskResult(meta string, fault *host.Fault) (*TaskResult, error) {
	if fault != nil {
		return nil, resultError(fault)
	}
	read := &TaskResult{Result: "null", Meta: JSON(meta)}
	_ = objectMembers(meta, func(name, text string) {
		switch name {
		case "state":
			read.State, _ = unquote(text)
		case "result":
			read.Result = JSON(text)
		case "traceback":
			read.Traceback, _ = unquote(text)
		}
	})
	return read, nil
}

func number(of int) JSON { return JSON(strconv.Itoa(of)) }
