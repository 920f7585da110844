//go:build !wasip1

// Package taskhosttest stands in for a host in tests of tasks: it lends them what they ask for, and writes down what they
// publish and say.
//
// A task is a function, and most tests just call it: add(taskhost.NewContext("id", "tasks.add", 0), AddArgs{1, 2}). This
// package is for those that publish, report progress or have arguments bound.
package taskhosttest

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"taskhost.dev/taskhost"
	"taskhost.dev/taskhost/internal/host"
)

// Host is what a task sees of a host. Its fields are set before the task is called, and read after it.
type Host struct {
	// RequestJSON is what [taskhost.Context.Request] reads.
	RequestJSON taskhost.JSON
	// Stop makes the task cancelled.
	Stop bool
	// TimeLimit is what remains; zero is no limit.
	TimeLimit time.Duration
	// Settings and Secrets are lent; any other is denied.
	Settings, Secrets map[string]string
	// Buckets are granted; any other is denied.
	Buckets map[string]map[string][]byte
	// Results are known, by id.
	Results map[string]taskhost.JSON
	// Refuse has whatever is published refused with this text.
	Refuse string

	// Published are all calls, in order.
	Published []Publication
	// States are those that the task has reported.
	States []State
	// Events are those that the task has sent.
	Events []State
	// Lines are the lines of the log.
	Lines []string

	mutex sync.Mutex
}

// Publication is a call that was published.
type Publication struct {
	Signature *taskhost.Signature
	// Now is true if it was not to wait for the end of the task.
	Now bool
	// Chord is true if it was added to the chord of the task.
	Chord bool
	// ID is what the task was told.
	ID string
}

// State is a state with its meta, or an event with its fields.
type State struct {
	Name string
	Meta taskhost.JSON
}

// Use has h stand in until the end of the test. Tests that do so cannot run in parallel.
func (h *Host) Use(t testing.TB) *Host {
	t.Helper()
	t.Cleanup(host.Use(&double{h}))
	return h
}

// Call runs a task that is registered, as a host does: with a JSON array and a JSON object. What it comes to other than a
// result is the error, which errors.As finds a *taskhost.Retry or a *taskhost.Error in.
func Call(ctx *taskhost.Context, args, kwargs taskhost.JSON) (taskhost.JSON, error) {
	return taskhost.Run(ctx, args, kwargs)
}

type double struct {
	*Host
}

func (d *double) Request() string {
	if d.RequestJSON == "" {
		return "{}"
	}
	return string(d.RequestJSON)
}

func (d *double) Cancelled() bool { return d.Stop }

func (d *double) RemainingMs() uint64 {
	if d.TimeLimit == 0 {
		return math.MaxUint64
	}
	return uint64(d.TimeLimit.Milliseconds())
}

func (d *double) UpdateState(state, meta string) *host.Fault {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	switch state {
	case "SUCCESS", "FAILURE", "REVOKED", "RETRY":
		return &host.Fault{Case: host.UpdateInvalid, Text: "the state " + state + " is what the task comes to"}
	}
	d.States = append(d.States, State{state, taskhost.JSON(meta)})
	return nil
}

func (d *double) SendEvent(kind, fields string) *host.Fault {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.Events = append(d.Events, State{kind, taskhost.JSON(fields)})
	return nil
}

func (d *double) Secret(name string) (string, *host.Fault) {
	if secret, ok := d.Secrets[name]; ok {
		return secret, nil
	}
	return "", &host.Fault{Text: "secret `" + name + "` is not granted"}
}

func (d *double) Config(key string) (string, bool, *host.Fault) {
	if value, ok := d.Settings[key]; ok {
		return value, true, nil
	}
	return "", false, &host.Fault{Text: "config `" + key + "` is not granted"}
}

func (d *double) OpenBucket(name string) (map[string][]byte, *host.Fault) {
	if bucket, ok := d.Buckets[name]; ok {
		return bucket, nil
	}
	return nil, &host.Fault{Case: host.BucketOther, Text: "keyvalue `" + name + "` is not granted"}
}

func (d *double) Publish(signature string, now bool) (string, *host.Fault) {
	return d.publish(Publication{Now: now}, signature)
}

func (d *double) Apply(signature, _, _ string, now bool) (string, *host.Fault) {
	id, fault := d.publish(Publication{Now: now}, signature)
	return fmt.Sprintf(`[[%q, null], null]`, id), fault
}

func (d *double) AddToChord(signature string, now bool) (string, *host.Fault) {
	id, fault := d.publish(Publication{Now: now, Chord: true}, signature)
	return fmt.Sprintf(`[[%q, null], null]`, id), fault
}

func (d *double) publish(call Publication, text string) (string, *host.Fault) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	if d.Refuse != "" {
		return "", &host.Fault{Case: host.PublishDenied, Text: d.Refuse}
	}
	if err := taskhost.JSON(text).Parse(&call.Signature); err != nil {
		return "", &host.Fault{Case: host.PublishInvalid, Text: err.Error()}
	}
	call.ID = fmt.Sprintf("call-%d", len(d.Published)+1)
	d.Published = append(d.Published, call)
	return call.ID, nil
}

func (d *double) Result(id string) (string, *host.Fault) {
	if meta, ok := d.Results[id]; ok {
		return string(meta), nil
	}
	return fmt.Sprintf(`{"task_id": %q, "state": "PENDING", "result": null, "traceback": null}`, id), nil
}

func (d *double) Wait(id string, _ uint64) (string, *host.Fault) {
	if meta, ok := d.Results[id]; ok {
		return string(meta), nil
	}
	return "", &host.Fault{Case: host.ResultTimedOut, Text: "task " + id + " was not done in time"}
}

func (d *double) Log(level host.Level, _, message string) {
	d.mutex.Lock()
	defer d.mutex.Unlock()
	names := [...]string{"trace", "debug", "info", "warn", "error", "critical"}
	d.Lines = append(d.Lines, names[level]+": "+message)
}
