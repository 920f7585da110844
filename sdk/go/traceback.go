package taskhost

import (
	"fmt"
	"runtime"
	"strings"
)

const becauseOf = "\n\nThe above exception was the direct cause of the following exception:\n\n"

// traceback is what Python would print of an error, causes first.
func traceback(err error, task *task, panicked []uintptr) string {
	if ours, ok := err.(*Error); ok && ours.traceback != "" {
		return ours.traceback
	}
	var parts []string
	for next := err; next != nil; next = below(next) {
		if _, ok := next.(*traced); ok && next != err {
			continue // says where the next one was
		}
		stack := stackOf(next)
		if next == err && panicked != nil {
			stack = panicked
		}
		part := frames(stack)
		if next == err && part == "" {
			part = frames([]uintptr{task.function() + 1})
		}
		if part != "" {
			part = "Traceback (most recent call last):\n" + part
		}
		parts = append(parts, part+lastLine(next))
		if traced, ok := next.(*traced); ok {
			next = traced.error
		}
	}
	var text strings.Builder
	for i := len(parts) - 1; i >= 0; i-- {
		text.WriteString(parts[i])
		if i > 0 {
			text.WriteString(becauseOf)
		}
	}
	text.WriteByte('\n')
	return text.String()
}

// stackOf gives where an error was made, as far as it knows.
func stackOf(err error) []uintptr {
	switch err := err.(type) {
	case *Error:
		return err.stack
	case *traced:
		return err.stack
	}
	return nil
}

// lastLine names class and message.
func lastLine(err error) string {
	class, module := classOf(err)
	message := err.Error()
	if ours, ok := err.(*Error); ok {
		message = ours.message
	}
	if module != "" && module != "builtins" {
		class = module + "." + class
	}
	if message == "" {
		return class
	}
	return class + ": " + message
}

// frames are the lines of those functions that are the task's, the outermost first.
func frames(stack []uintptr) string {
	if len(stack) == 0 {
		return ""
	}
	var lines []string
	for frames := runtime.CallersFrames(stack); ; {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, here+"Task[") {
			break // which called the task
		}
		if name := frame.Function; name != "" && !isOurs(name) {
			lines = append(lines, fmt.Sprintf("  File \"%s\", line %d, in %s\n", frame.File, frame.Line, shortName(name)))
		}
		if !more {
			break
		}
	}
	var text strings.Builder
	for i := len(lines) - 1; i >= 0; i-- {
		text.WriteString(lines[i])
	}
	return text.String()
}

// here is how the names of functions of this package begin.
const here = "taskhost.dev/taskhost."

// isOurs is true for what runs around a task: Go's runtime, and this package.
func isOurs(function string) bool {
	return strings.HasPrefix(function, "runtime.") || strings.HasPrefix(function, here) || strings.HasPrefix(function, "reflect.")
}

// shortName is a function without its package.
func shortName(function string) string {
	name := function[strings.LastIndexByte(function, '/')+1:]
	_, name, _ = strings.Cut(name, ".")
	return strings.TrimSuffix(name, "[...]")
}

// panicStack gives the functions that were running when a panic began, as seen by what recovers from it.
func panicStack() []uintptr {
	const most = 64
	var found [most]uintptr
	stack := found[:runtime.Callers(2, found[:])]
	for i, pc := range stack {
		if name := runtime.FuncForPC(pc - 1).Name(); name == "runtime.gopanic" || name == "runtime.panicmem" || name == "runtime.sigpanic" {
			return append([]uintptr(nil), stack[i+1:]...)
		}
	}
	return append([]uintptr(nil), stack...)
}
