package main

import (
	"errors"
	"testing"

	"taskhost.dev/taskhost"
	"taskhost.dev/taskhost/taskhosttest"
)

func TestNumbersAreAdded(t *testing.T) {
	if sum, err := add(nil, AddArgs{2, 2}); sum != 4 || err != nil {
		t.Error(sum, err)
	}
}

func TestLettersOfAllWordsCount(t *testing.T) {
	host := (&taskhosttest.Host{}).Use(t)
	ctx := taskhost.NewContext("some-id", "{{name}}.letters", 0)
	if letters, err := letters(ctx, LettersArgs{[]string{"four", "три"}}); letters != 7 || err != nil {
		t.Error(letters, err)
	}
	if len(host.States) != 2 {
		t.Error("it says after each word how far it is:", host.States)
	}
}

func TestWithoutWordsItAsksToBeRunAgain(t *testing.T) {
	ctx := taskhost.NewContext("some-id", "{{name}}.letters", 0)
	var retry *taskhost.Retry
	if _, err := taskhosttest.Call(ctx, "[[]]", "{}"); !errors.As(err, &retry) {
		t.Error(err)
	}
}
