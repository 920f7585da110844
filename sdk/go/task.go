package taskhost

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
)

// None is what a task takes that has no arguments, and what one gives that has no result.
type None = struct{}

// TaskName is the name of a task that is registered.
type TaskName string

// Signature is a call of the task: Celery's task.s(..).
func (n TaskName) Signature(args ...any) *Signature {
	return NewSignature(string(n), args...)
}

// Task registers a function as a task under the name that clients use. It is called in an init function, or as the
// value of a package variable:
//
//	type AddArgs struct {
//		X int `json:"x"`
//		Y int `json:"y" default:"1"`
//	}
//
//	func add(ctx *taskhost.Context, args AddArgs) (int, error) {
//		return args.X + args.Y, nil
//	}
//
//	func init() {
//		taskhost.Task("tasks.add", add, taskhost.Doc("Adds two numbers."), taskhost.TimeLimit(30*time.Second))
//	}
//
// The fields of the struct are the parameters, in order, so clients may call add.delay(1, 2) and add.delay(x=1, y=2).
// A field is optional if it has a default (a text for a string, and JSON for anything else), if its tag says omitempty
// or omitzero, or if it is a pointer. A slice with the tag `taskhost:"args"` takes further positional arguments, and a
// map with `taskhost:"kwargs"` further keyword arguments, as Python's *args and **kwargs do; fields after the slice are
// given by name alone. Without arguments it is [None].
//
// The result is anything that encoding/json writes. How else a task may end: see [Error], [Retry], [Reject], [Ignore]
// and [Replace]. A panic is an exception of the class RuntimeError.
//
//go:noinline
func Task[A, R any](name string, run func(ctx *Context, args A) (R, error), options ...Option) TaskName {
	// An instance runs one task, and often once: whatever can wait until somebody needs it does.
	t := &task{name: name, given: options}
	t.function = func() uintptr { return reflect.ValueOf(run).Pointer() }
	t.args = func() reflect.Type { return reflect.TypeFor[A]() }
	t.call = func(ctx *Context, args, kwargs string) (string, error) {
		var given A
		if err := t.parameters().bind(reflect.ValueOf(&given).Elem(), args, kwargs); err != nil {
			return "", err
		}
		result, err := run(ctx, given)
		if err != nil {
			return "", err
		}
		return encode(result)
	}
	registered = append(registered, t)
	return TaskName(name)
}

// task is what was registered.
type task struct {
	name    string
	summary string
	given   []Option
	options []setting
	args    func() reflect.Type
	// function is the address of the function, for tracebacks.
	function func() uintptr
	call     func(ctx *Context, args, kwargs string) (string, error)
	bound    *parameters
	mistakes []string
}

type setting struct {
	name string
	json string
}

var registered []*task

// parameters reads the struct when it is first needed: of all tasks of a plugin an attempt runs one.
func (t *task) parameters() *parameters {
	if t.bound == nil {
		short := t.name[strings.LastIndexByte(t.name, '.')+1:]
		bound, mistakes := readParameters(short, t.args())
		t.bound = bound
		for _, mistake := range mistakes {
			t.mistake("%s", mistake)
		}
	}
	return t.bound
}

func (t *task) mistake(format string, values ...any) {
	t.mistakes = append(t.mistakes, fmt.Sprintf(format, values...))
}

// where is the line at which its function begins.
func (t *task) where() string {
	function := runtime.FuncForPC(t.function())
	if function == nil {
		return "somewhere"
	}
	file, line := function.FileLine(function.Entry())
	return fmt.Sprintf("%s:%d", file, line)
}

func find(name string) *task {
	for _, task := range registered {
		if task.name == name {
			return task
		}
	}
	return nil
}

// info is what describe says of a task.
type info struct {
	name, summary, schema string
	options               []setting
}

// tasks gives what describe says, or what is wrong in the words of those who wrote it.
func tasks() (infos []info, wrong []string) {
	if len(registered) == 0 {
		return nil, []string{`no task is registered: call taskhost.Task("name", function) in an init function of package main`}
	}
	for i, task := range registered {
		schema := task.parameters().schema()
		if task.function() == 0 {
			task.mistake("its function is nil")
		}
		task.options = nil
		for _, option := range task.given {
			option(task)
		}
		if earlier := find(task.name); earlier != registered[i] {
			task.mistake("there is a task of this name already, whose function is at %s", earlier.where())
		}
		for _, mistake := range task.mistakes {
			wrong = append(wrong, fmt.Sprintf("%s: task %q: %s", task.where(), task.name, mistake))
		}
		infos = append(infos, info{task.name, task.summary, schema, task.options})
	}
	return infos, wrong
}
