package taskhost

import (
	"regexp"
	"strings"
	"testing"
)

// outcome is how task t.end of the other tests ends, in a line; places in files become `main.go:1`.
func outcome(kind string) string {
	result, ended := run("id", "t.end", `["`+kind+`"]`, "{}", 0)
	switch {
	case ended == nil:
		return result
	case ended.kind == rejected && ended.requeue:
		return "reject"
	case ended.kind == ignoring:
		return "ignore"
	case ended.kind == replaced:
		return "replace " + ended.signature
	case ended.kind == retried:
		retry := ended.retry
		return strings.Join([]string{"retry", string(*retry.args), string(*retry.kwargs), ended.exception.class}, " ")
	}
	return ended.exception.module + " " + ended.exception.class + " " + ended.exception.arguments
}

func TestEveryEndHasItsCase(t *testing.T) {
	for kind, expected := range map[string]string{
		"fine":                `"FINE"`,
		"own":                 ` LoadError ["cannot load"]`,
		"wrapped":             ` PathError ["more: open /x: file does not exist"]`,
		"plain":               ` TaskError ["plain"]`,
		"chosen":              `mine ValueError ["bad value", 42]`,
		"formatted":           `builtins KeyError ["no k: file already exists"]`,
		"empty":               ` LoadError ["cannot load"]`,
		"retry":               `retry [1, "a"] {"b":2} ConnectionError`,
		"retry of nothing":    `builtins TypeError ["not JSON serializable: unsupported type: func()"]`,
		"replace":             `replace {"task": "t.a", "args": [1], "kwargs": {}, "options": {}, "subtask_type": null, "immutable": false}`,
		"replace by nothing":  `builtins TypeError ["a signature of t.a: not JSON serializable: unsupported type: func()"]`,
		"reject":              "reject",
		"ignore":              "ignore",
		"nil":                 `builtins RuntimeError ["runtime error: invalid memory address or nil pointer dereference"]`,
		"panic":               `builtins RuntimeError ["at the disco"]`,
		"panic with an error": `builtins ValueError ["thrown"]`,
		"result":              `builtins TypeError ["not JSON serializable: unsupported type: func()"]`,
	} {
		if found := outcome(kind); found != expected {
			t.Errorf("%s:\nfound    %s\nexpected %s", kind, found, expected)
		}
	}
	if _, ended := run("id", "t.nobody", "[]", "{}", 0); ended.exception.class != "NotRegistered" {
		t.Error(ended.exception)
	}
}

var place = regexp.MustCompile(`File "[^"]*", line \d+, in `)

func TestTracebacksAreLaidOutAsPythonDoes(t *testing.T) {
	for kind, expected := range map[string]string{
		"own": "TaskError: file does not exist@Traceback (most recent call last):\nFile end\nFile deeper\nLoadError: cannot load\n",
		"wrapped": "TaskError: file does not exist@PathError: open /x: file does not exist@" +
			"Traceback (most recent call last):\nFile end\nPathError: more: open /x: file does not exist\n",
		"plain":  "Traceback (most recent call last):\nFile end\nTaskError: plain\n",
		"chosen": "TaskError: why@Traceback (most recent call last):\nFile end\nmine.ValueError: ('bad value', 42)\n",
		"nil": "Traceback (most recent call last):\nFile end\n" +
			"RuntimeError: runtime error: invalid memory address or nil pointer dereference\n",
		"panic": "Traceback (most recent call last):\nFile end\nRuntimeError: at the disco\n",
	} {
		_, ended := run("id", "t.end", `["`+kind+`"]`, "{}", 0)
		found := place.ReplaceAllString(ended.exception.traceback, "File ")
		found = strings.ReplaceAll(strings.ReplaceAll(found, "  File", "File"), becauseOf, "@")
		if !strings.HasSuffix(found, expected) {
			t.Errorf("%s:\nfound    %s\nexpected %s", kind, found, expected)
		}
	}
}
