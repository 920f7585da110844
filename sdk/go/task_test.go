package taskhost_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"time"

	"taskhost.dev/taskhost"
	"taskhost.dev/taskhost/taskhosttest"
)

type pageArgs struct {
	URL   string             `json:"url"`
	Size  int                `json:"size" default:"10"`
	Label string             `json:"label" default:"a b"`
	Limit *float64           `json:"limit"`
	Flag  bool               `json:"flag,omitempty"`
	Not   int                `json:"-"`
	Any   map[string]float64 `json:"any" default:"{\"a\": 1}"`
}

type sumArgs struct {
	A int
	B int
	C int
}

type restArgs struct {
	X       int                      `json:"x"`
	Rest    []taskhost.JSON          `taskhost:"args"`
	Expires *int                     `json:"expires"`
	Named   map[string]taskhost.JSON `taskhost:"kwargs"`
}

// tasks of these tests; a plugin registers its own in an init function.
var (
	noop = taskhost.Task("t.noop", func(*taskhost.Context, taskhost.None) (taskhost.None, error) {
		return taskhost.None{}, nil
	})
	_ = taskhost.Task("t.one", func(_ *taskhost.Context, args struct {
		X any `json:"x"`
	}) (any, error) {
		return args.X, nil
	})
	_ = taskhost.Task("t.sum", func(_ *taskhost.Context, args sumArgs) (int, error) { return args.A + args.B + args.C, nil })
	_ = taskhost.Task("t.page", func(_ *taskhost.Context, args pageArgs) (string, error) {
		limit := "none"
		if args.Limit != nil {
			limit = fmt.Sprint(*args.Limit)
		}
		return fmt.Sprint(args.URL, " ", args.Size, " ", args.Label, " ", limit, " ", args.Flag, " ", args.Any), nil
	}, taskhost.Doc("Fetches a page."), taskhost.MaxRetries(taskhost.Unlimited), taskhost.TimeLimit(1500*time.Millisecond))
	_ = taskhost.Task("t.rest", func(_ *taskhost.Context, args restArgs) (string, error) {
		expires := "none"
		if args.Expires != nil {
			expires = fmt.Sprint(*args.Expires)
		}
		return fmt.Sprint(args.X, " ", args.Rest, " ", expires, " ", args.Named), nil
	})
	_ = taskhost.Task("t.end", end)
)

func call(task, args, kwargs string) string {
	result, err := taskhosttest.Call(taskhost.NewContext("id", task, 0), taskhost.JSON(args), taskhost.JSON(kwargs))
	if err != nil {
		return "error: " + err.Error()
	}
	return string(result)
}

func TestArgumentsAreBoundByPlaceAndByName(t *testing.T) {
	check(t, call("t.noop", "[]", "{}"), "null")
	check(t, call("t.sum", "[1, 2, 3]", "{}"), "6")
	check(t, call("t.sum", "[1]", `{"C": 2, "B": 3}`), "6")
	check(t, call("t.one", "[]", `{"x": 1, "x": 2}`), "2")
	check(t, call("t.page", `["u"]`, "{}"), `"u 10 a b none false map[a:1]"`)
	check(t, call("t.page", `["u", 1]`, `{"limit": 2.5, "flag": true, "any": {}}`), `"u 1 a b 2.5 true map[]"`)
	check(t, call("t.page", `["u", 1, "ü", null, true, {"x": 1e300}]`, "{}"), `"u 1 ü none true map[x:1e+300]"`)
}

func TestWrongArgumentsAreTypeErrorsInPythonsWords(t *testing.T) {
	for _, c := range [][3]string{
		{"t.sum", "[1, 2]", "sum() missing 1 required positional argument: 'C'"},
		{"t.sum", "[1]", "sum() missing 2 required positional arguments: 'B' and 'C'"},
		{"t.sum", "[]", "sum() missing 3 required positional arguments: 'A', 'B', and 'C'"},
		{"t.sum", "[1, 2, 3, 4]", "sum() takes 3 positional arguments but 4 were given"},
		{"t.one", "[1, 2]", "one() takes 1 positional argument but 2 were given"},
		{"t.noop", "[1]", "noop() takes 0 positional arguments but 1 was given"},
		{"t.page", `["u", 1, "", null, true, {}, 7]`, "page() takes from 1 to 6 positional arguments but 7 were given"},
		{"t.page", "[1]", "page() argument 'url': expected string, got number"},
		{"t.page", `["u", 1.5]`, "page() argument 'size': expected int, got number 1.5"},
		{"t.sum", "{}", "sum() the positional arguments are not a JSON array"},
	} {
		check(t, call(c[0], c[1], "{}"), "error: "+c[2])
	}
	check(t, call("t.sum", "[1, 2]", `{"z": 1}`), "error: sum() got an unexpected keyword argument 'z'")
	check(t, call("t.sum", "[1, 2, 3, 4]", `{"z": 1}`), "error: sum() got an unexpected keyword argument 'z'")
	check(t, call("t.sum", "[1]", `{"A": 1}`), "error: sum() got multiple values for argument 'A'")
	check(t, call("t.sum", "[]", "[]"), "error: sum() the keyword arguments are not a JSON object")
	check(t, call("t.none", "[]", "{}"), "error: t.none")
	var wrong *taskhost.Error
	_, err := taskhosttest.Call(taskhost.NewContext("id", "t.sum", 0), "[]", "{}")
	if !errors.As(err, &wrong) || wrong.Class() != "TypeError" {
		t.Error(err)
	}
}

func TestWhatHasNoNameGoesToTheRest(t *testing.T) {
	check(t, call("t.rest", "[1]", "{}"), `"1 [] none map[]"`)
	check(t, call("t.rest", "[1, 2, [3, NaN]]", `{"expires": 4}`), `"1 [2 [3, NaN]] 4 map[]"`)
	check(t, call("t.rest", "[]", `{"y": {"z": -Infinity}, "x": 2, "a\"": null}`), `"2 [] none map[a\":null y:{\"z\": -Infinity}]"`)
	check(t, call("t.rest", "[]", `{"y": 1}`), "error: rest() missing 1 required positional argument: 'x'")
	check(t, call("t.rest", "[1]", `{"x": 1}`), "error: rest() got multiple values for argument 'x'")
}

func TestTasksAreCalledByName(t *testing.T) {
	if names, mistakes := taskhost.Describe(); len(mistakes) > 0 || names[0] != "t.noop" {
		t.Error(names, mistakes)
	}
	text, err := taskhost.ToJSON(noop.Signature(1, "a"))
	if err != nil {
		t.Error(err)
	}
	check(t, string(text), `{"task": "t.noop", "args": [1, "a"], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}`)
}

type endArgs struct {
	Kind string `json:"kind"`
}

type loadError struct{ cause error }

func (e *loadError) Error() string { return "cannot load" }
func (e *loadError) Unwrap() error { return e.cause }

func deeper() error {
	return taskhost.Trace(&loadError{fs.ErrNotExist})
}

func end(_ *taskhost.Context, args endArgs) (any, error) {
	var nobody *pageArgs
	switch args.Kind {
	case "own":
		return nil, deeper()
	case "wrapped":
		return nil, fmt.Errorf("more: %w", &fs.PathError{Op: "open", Path: "/x", Err: fs.ErrNotExist})
	case "plain":
		return nil, errors.New("plain")
	case "chosen":
		return nil, taskhost.NewError("ValueError", "bad value", 42).In("mine").WithCause(errors.New("why"))
	case "formatted":
		return nil, taskhost.Errorf("KeyError", "no %s: %w", "k", fs.ErrExist)
	case "empty":
		return nil, &loadError{}
	case "retry":
		return nil, fmt.Errorf("again: %w", taskhost.NewRetry().Countdown(2*time.Second).MaxRetries(5).Args(1, "a").
			Kwargs(map[string]int{"b": 2}).Cause(taskhost.NewError("ConnectionError", "no route")))
	case "retry of nothing":
		return nil, taskhost.NewRetry().Args(func() {})
	case "replace":
		return nil, taskhost.Replace(taskhost.NewSignature("t.a", 1))
	case "replace by nothing":
		return nil, taskhost.Replace(taskhost.NewSignature("t.a", func() {}))
	case "reject":
		return nil, taskhost.Reject(true)
	case "ignore":
		return nil, taskhost.Ignore()
	case "nil":
		return nobody.URL, nil
	case "panic":
		panic("at the disco")
	case "panic with an error":
		panic(taskhost.NewError("ValueError", "thrown"))
	case "result":
		return func() {}, nil
	}
	return strings.ToUpper(args.Kind), nil
}
