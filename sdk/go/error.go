package taskhost

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is an exception as a Python client gets it. Any other error that a task returns becomes one as well, of a class
// that has the name of its type; errors.New and fmt.Errorf make errors of no type of their own, which have the class
// of the first error they wrap that has one, and else TaskError.
type Error struct {
	class     string
	module    string
	args      []any
	message   string
	cause     error
	traceback string
	stack     []uintptr
}

// NewError makes the exception that Python knows as builtins.<class>, with these arguments: the first, if it is the only
// one, is the message. A client that has no such class makes one of that name.
func NewError(class string, args ...any) *Error {
	return &Error{class: class, module: "builtins", args: args, message: pythonText(args), stack: callers()}
}

// Errorf makes an exception with a message as fmt.Errorf makes it; what %w wraps is its cause.
func Errorf(class, format string, values ...any) *Error {
	formatted := fmt.Errorf(format, values...)
	message := formatted.Error()
	cause := below(formatted)
	return &Error{class: class, module: "builtins", args: []any{message}, message: message, cause: cause, stack: callers()}
}

// In says which module the class is of. The host passes on builtins, celery.exceptions and the modules that plugin.toml
// names; of any other clients get a class made for them.
func (e *Error) In(module string) *Error {
	copied := *e
	copied.module = module
	return &copied
}

// WithCause says which error was the reason.
func (e *Error) WithCause(cause error) *Error {
	copied := *e
	copied.cause = cause
	return &copied
}

// WithTraceback gives a traceback in place of the one that tells where the error was made.
func (e *Error) WithTraceback(text string) *Error {
	copied := *e
	copied.traceback = text
	return &copied
}

// Error gives the message, and of an exception without one its class.
func (e *Error) Error() string {
	if e.message == "" {
		return e.class
	}
	return e.message
}

// Class is the name of the class.
func (e *Error) Class() string {
	return e.class
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error {
	return e.cause
}

// Trace remembers for the traceback where it was called: other errors than those of this package do not know where they
// come from.
//
//	return taskhost.Trace(err)
func Trace(err error) error {
	var known *traced
	var ours *Error
	if err == nil || errors.As(err, &known) || errors.As(err, &ours) {
		return err
	}
	return &traced{err, callers()}
}

type traced struct {
	error
	stack []uintptr
}

func (t *traced) Unwrap() error {
	return t.error
}

// callers are the functions that run, from the one that called the caller of this package.
func callers() []uintptr {
	const most = 32
	var found [most]uintptr
	return append([]uintptr(nil), found[:runtime.Callers(3, found[:])]...)
}

// classOf gives the class that an error has for Python.
func classOf(err error) (class, module string) {
	for next := err; next != nil; next = below(next) {
		if ours, ok := next.(*Error); ok {
			return ours.class, ours.module
		}
		if name := typeName(reflect.TypeOf(next)); name != "" {
			return name, ""
		}
	}
	return "TaskError", ""
}

// below gives what an error wraps; of several the first.
func below(err error) error {
	switch wraps := err.(type) {
	case interface{ Unwrap() error }:
		return wraps.Unwrap()
	case interface{ Unwrap() []error }:
		if all := wraps.Unwrap(); len(all) > 0 {
			return all[0]
		}
	}
	return nil
}

// typeName is the name of a type, unless it says nothing; before a mere Error stands the package that tells it apart.
func typeName(of reflect.Type) string {
	for of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	switch of.PkgPath() {
	case "errors", "fmt":
		return ""
	case reflect.TypeFor[Error]().PkgPath():
		if of == reflect.TypeFor[traced]() {
			return ""
		}
	}
	name := capital(of.Name())
	if name == "Error" {
		return capital(of.PkgPath()[strings.LastIndexByte(of.PkgPath(), '/')+1:]) + name
	}
	return name
}

func capital(name string) string {
	first, size := utf8.DecodeRuneInString(name)
	if size == 0 {
		return ""
	}
	return string(unicode.ToUpper(first)) + name[size:]
}

// pythonText is what str() gives of an exception with these arguments.
func pythonText(args []any) string {
	switch len(args) {
	case 0:
		return ""
	case 1:
		return fmt.Sprint(args[0])
	}
	texts := make([]string, len(args))
	for i, arg := range args {
		texts[i] = pythonRepr(arg)
	}
	return "(" + strings.Join(texts, ", ") + ")"
}

func pythonRepr(value any) string {
	switch value := value.(type) {
	case nil:
		return "None"
	case bool:
		return capital(fmt.Sprint(value))
	case string:
		mark := "'"
		if strings.Contains(value, "'") && !strings.Contains(value, `"`) {
			mark = `"`
		}
		return mark + strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`, "\t", `\t`, mark, `\`+mark).Replace(value) + mark
	}
	return fmt.Sprint(value)
}
