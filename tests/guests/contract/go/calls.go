package main

import (
	"encoding/json"
	"time"

	"taskhost.dev/taskhost"
)

func init() {
	taskhost.Task("contract.retry", retry, taskhost.MaxRetries(taskhost.Unlimited))
	taskhost.Task("contract.retry_args", retryArgs)
	taskhost.Task("contract.give_up", giveUp, taskhost.MaxRetries(1), taskhost.DefaultRetryDelay(0))
	taskhost.Task("contract.unsteady", unsteady,
		taskhost.AutoretryFor("ConnectionError"), taskhost.MaxRetries(2), taskhost.DefaultRetryDelay(0))
	taskhost.Task("contract.reject", reject)
	taskhost.Task("contract.ignore", ignore)
	taskhost.Task("contract.replace", replace)
	taskhost.Task("contract.progress", progress)
	taskhost.Task("contract.report", report)
	taskhost.Task("contract.event", event)
	taskhost.Task("contract.publish", publish)
	taskhost.Task("contract.apply", apply)
	taskhost.Task("contract.ask", ask)
	taskhost.Task("contract.compose", compose)
	taskhost.Task("contract.become", become)
	taskhost.Task("contract.extend", extend)
	taskhost.Task("contract.sum", sum)
}

// RetryArgs say how often, and after how many seconds.
type RetryArgs struct {
	Times     int     `json:"times" default:"2"`
	Countdown float64 `json:"countdown" default:"0"`
}

func retry(ctx *taskhost.Context, args RetryArgs) (int, error) {
	if ctx.Retries() >= args.Times {
		return ctx.Retries(), nil
	}
	cause := taskhost.Errorf("ConnectionError", "attempt %d", ctx.Retries()+1)
	return 0, taskhost.NewRetry().Countdown(time.Duration(args.Countdown * float64(time.Second))).Cause(cause)
}

// WordArgs is a word.
type WordArgs struct {
	Word string `json:"word"`
}

func retryArgs(ctx *taskhost.Context, args WordArgs) (string, error) {
	if ctx.Retries() == 0 {
		return "", taskhost.NewRetry().Args("second").Countdown(0)
	}
	return args.Word, nil
}

func giveUp(*taskhost.Context, taskhost.None) (taskhost.None, error) {
	return taskhost.None{}, taskhost.NewRetry().Cause(taskhost.NewError("ValueError", "never"))
}

// UnsteadyArgs say how often it fails.
type UnsteadyArgs struct {
	Times int `json:"times" default:"1"`
}

func unsteady(ctx *taskhost.Context, args UnsteadyArgs) (int, error) {
	if ctx.Retries() < args.Times {
		return 0, taskhost.Errorf("ConnectionError", "attempt %d", ctx.Retries()+1)
	}
	return ctx.Retries(), nil
}

// RejectArgs say whether it is to be delivered again.
type RejectArgs struct {
	Requeue bool `json:"requeue,omitempty"`
}

func reject(_ *taskhost.Context, args RejectArgs) (taskhost.None, error) {
	return taskhost.None{}, taskhost.Reject(args.Requeue)
}

func ignore(*taskhost.Context, taskhost.None) (taskhost.None, error) {
	return taskhost.None{}, taskhost.Ignore()
}

// CallArgs are a call.
type CallArgs struct {
	Task string `json:"task"`
	Args []any  `json:"args"`
}

func replace(_ *taskhost.Context, args CallArgs) (taskhost.None, error) {
	return taskhost.None{}, taskhost.Replace(taskhost.NewSignature(args.Task, args.Args...))
}

// ProgressArgs say in how many steps.
type ProgressArgs struct {
	Steps int `json:"steps" default:"3"`
}

func progress(ctx *taskhost.Context, args ProgressArgs) (int, error) {
	for i := 1; i <= args.Steps; i++ {
		ctx.Progress(i, args.Steps)
	}
	return args.Steps, ctx.UpdateState("CUSTOM", map[string]string{"note": "ü"})
}

// ReportArgs name a state.
type ReportArgs struct {
	State string `json:"state"`
}

func report(ctx *taskhost.Context, args ReportArgs) (*string, error) {
	if err := ctx.UpdateState(args.State, struct{}{}); err != nil {
		text := err.Error()
		return &text, nil
	}
	return nil, nil
}

// EventArgs name an event.
type EventArgs struct {
	Kind string `json:"kind"`
}

func event(ctx *taskhost.Context, args EventArgs) (taskhost.None, error) {
	return taskhost.None{}, ctx.SendEvent(args.Kind, map[string]int{"x": 1})
}

// PublishArgs are a call, and when it is made.
type PublishArgs struct {
	Task string `json:"task"`
	Args []any  `json:"args"`
	Now  bool   `json:"now,omitempty"`
	Fail bool   `json:"fail,omitempty"`
}

func publish(ctx *taskhost.Context, args PublishArgs) (string, error) {
	signature := taskhost.NewSignature(args.Task, args.Args...)
	call := ctx.Publish
	if args.Now {
		call = ctx.PublishNow
	}
	id, err := call(signature)
	if err == nil && args.Fail {
		err = taskhost.NewError("ValueError", "as was asked for")
	}
	return id, err
}

// ApplyArgs are a canvas.
type ApplyArgs struct {
	Canvas *taskhost.Signature `json:"canvas"`
}

func apply(ctx *taskhost.Context, args ApplyArgs) (*taskhost.AsyncResult, error) {
	return ctx.ApplyNow(args.Canvas)
}

// AskArgs are a call, and how long its result is waited for.
type AskArgs struct {
	Task    string  `json:"task"`
	Args    []any   `json:"args"`
	Timeout float64 `json:"timeout" default:"20"`
}

func ask(ctx *taskhost.Context, args AskArgs) (taskhost.JSON, error) {
	id, err := ctx.PublishNow(taskhost.NewSignature(args.Task, args.Args...))
	if err != nil {
		return "", err
	}
	result, err := ctx.Wait(id, time.Duration(args.Timeout*float64(time.Second)))
	if err != nil {
		return "", err
	}
	return result.Result, nil
}

// NameArgs name a canvas.
type NameArgs struct {
	Name string `json:"name"`
}

func compose(_ *taskhost.Context, args NameArgs) (*taskhost.Signature, error) {
	sig := taskhost.NewSignature
	a, b, c, d, e, f := sig("t.a"), sig("t.b"), sig("t.c"), sig("t.d"), sig("t.e"), sig("t.f")
	header := []*taskhost.Signature{a.Args(1), a.Args(2)}
	canvases := map[string]func() *taskhost.Signature{
		"call": func() *taskhost.Signature { return a.Args(1, 2).Kwargs(map[string]int{"z": 3}) },
		"options": func() *taskhost.Signature {
			return a.Option("queue", "slow").Option("priority", 5).Countdown(1500*time.Millisecond).
				Option("expires", 60).Option("task_id", "abc")
		},
		"immutable":    func() *taskhost.Signature { return a.Args(1).Immutable() },
		"partial":      func() *taskhost.Signature { return a.Args(2).Partial(1) },
		"link":         func() *taskhost.Signature { return a.Link(b).LinkError(c) },
		"chain":        func() *taskhost.Signature { return a.Args(1).Then(b).Then(c) },
		"chain_group":  func() *taskhost.Signature { return a.Args(1).Then(taskhost.Group(b, c)).Then(d) },
		"group":        func() *taskhost.Signature { return taskhost.Group(header...) },
		"chord":        func() *taskhost.Signature { return taskhost.Chord(header, b) },
		"chord_chain":  func() *taskhost.Signature { return taskhost.Chord(header, b).Then(c) },
		"chunks":       func() *taskhost.Signature { return taskhost.Chunks(a, [][]int{{1, 2}, {3, 4}, {5, 6}}, 2) },
		"map":          func() *taskhost.Signature { return taskhost.XMap(a, []int{1, 2}) },
		"starmap":      func() *taskhost.Signature { return taskhost.XStarmap(a, [][]int{{1, 2}, {3, 4}}) },
		"stamp":        func() *taskhost.Signature { return taskhost.Group(a.Args(1), b.Link(c)).Stamp("tenant", "x") },
		"linked_chain": func() *taskhost.Signature { return a.Then(b).Link(c).LinkError(d) },
		"linked_group": func() *taskhost.Signature { return taskhost.Group(a, b).Link(c).LinkError(d) },
		"linked_chord": func() *taskhost.Signature {
			return taskhost.Chord([]*taskhost.Signature{a, b}, c).Link(d).LinkError(e)
		},
		"nested": func() *taskhost.Signature {
			return a.Then(taskhost.Group(b.Then(c), taskhost.Group(d, e))).Then(f)
		},
		"single": func() *taskhost.Signature { return taskhost.Chain(taskhost.Group(a), b) },
	}
	canvas, ok := canvases[args.Name]
	if !ok {
		return nil, taskhost.NewError("KeyError", args.Name)
	}
	return canvas(), nil
}

func become(_ *taskhost.Context, args NameArgs) (taskhost.None, error) {
	var additions []*taskhost.Signature
	for i := 1; i <= 3; i++ {
		additions = append(additions, taskhost.NewSignature("contract.add", i, i))
	}
	var canvas *taskhost.Signature
	switch args.Name {
	case "chain":
		canvas = taskhost.Chain(taskhost.NewSignature("contract.add", 1, 2), taskhost.NewSignature("contract.add", 10))
	case "group":
		canvas = taskhost.Group(additions...)
	case "chord":
		canvas = taskhost.Chord(additions, taskhost.NewSignature("contract.sum"))
	default:
		return taskhost.None{}, taskhost.NewError("KeyError", args.Name)
	}
	return taskhost.None{}, taskhost.Replace(canvas)
}

// ExtendArgs are numbers.
type ExtendArgs struct {
	Items []json.Number `json:"items"`
}

func extend(ctx *taskhost.Context, args ExtendArgs) (int, error) {
	for _, item := range args.Items {
		if _, err := ctx.AddToChord(taskhost.NewSignature("contract.add", item, 0)); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// SumArgs are numbers.
type SumArgs struct {
	Numbers []json.Number `json:"numbers"`
}

func sum(_ *taskhost.Context, args SumArgs) (any, error) {
	return total(args.Numbers...)
}
