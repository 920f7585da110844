package taskhost

import (
	"errors"
	"fmt"
	"runtime"
)

// How an attempt ends other than with a result, as the interface has it.
type failure struct {
	kind      uint8
	exception *exception
	retry     *Retry
	requeue   bool
	signature string
}

// Cases of failure.
const (
	failed = iota
	retried
	rejected
	ignoring
	replaced
)

// exception is the record error of the interface.
type exception struct {
	class     string
	module    string
	arguments string
	traceback string
}

// run runs one task as the host asks for it.
func run(id, name, args, kwargs string, retries int) (result string, ended *failure) {
	ctx := NewContext(id, name, retries)
	result, stack, err := call(ctx, args, kwargs)
	if err != nil {
		return "", end(err, find(name), stack)
	}
	return result, nil
}

// call calls the function of a task; of a panic it tells which functions were running.
func call(ctx *Context, args, kwargs string) (result string, stack []uintptr, err error) {
	defer ctx.end()
	task := find(ctx.task)
	if task == nil {
		err := NewError("NotRegistered", ctx.task).In("celery.exceptions")
		return "", nil, err.WithTraceback("celery.exceptions.NotRegistered: " + ctx.task + "\n")
	}
	defer func() {
		if panicked := recover(); panicked != nil {
			stack = panicStack()
			err = panicError(panicked)
		}
	}()
	result, err = task.call(ctx, args, kwargs)
	return result, nil, err
}

// panicError is the exception of a panic: that of the error, if somebody has panicked with one.
func panicError(panicked any) error {
	err, isError := panicked.(error)
	var fromRuntime runtime.Error
	switch {
	case !isError:
		return &Error{class: "RuntimeError", module: "builtins", args: []any{fmt.Sprint(panicked)}, message: fmt.Sprint(panicked)}
	case errors.As(err, &fromRuntime):
		return &Error{class: "RuntimeError", module: "builtins", args: []any{err.Error()}, message: err.Error()}
	}
	return err
}

// end says how a task ends that returned an error.
func end(err error, task *task, stack []uintptr) *failure {
	var retry *Retry
	var reject *rejection
	var ignore *ignored
	var replace *replacement
	switch {
	case errors.As(err, &retry):
		if retry.broken != nil {
			return &failure{exception: raise(retry.broken, task, stack)}
		}
		ended := &failure{kind: retried, retry: retry}
		if retry.cause != nil {
			ended.exception = raise(retry.cause, task, nil)
		}
		return ended
	case errors.As(err, &reject):
		return &failure{kind: rejected, requeue: reject.requeue}
	case errors.As(err, &ignore):
		return &failure{kind: ignoring}
	case errors.As(err, &replace):
		text, err := replace.signature.write()
		if err != nil {
			return &failure{exception: raise(Errorf("TypeError", "%w", err), task, nil)}
		}
		return &failure{kind: replaced, signature: text}
	}
	return &failure{exception: raise(err, task, stack)}
}

// raise makes the exception of an error.
func raise(err error, task *task, stack []uintptr) *exception {
	class, module := classOf(err)
	raised := &exception{class: class, module: module, traceback: traceback(err, task, stack)}
	if ours, ok := err.(*Error); ok {
		arguments, broken := list(ours.args)
		if broken != nil {
			arguments = joinArray([]JSON{JSON(quote(fmt.Sprint(ours.args...)))})
		}
		raised.arguments = arguments
		return raised
	}
	raised.arguments = joinArray([]JSON{JSON(quote(err.Error()))})
	return raised
}
