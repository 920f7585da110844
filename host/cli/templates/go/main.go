// Tasks of the plugin {{name}}.
package main

import (
	"time"
	"unicode/utf8"

	"taskhost.dev/taskhost"
)

func init() {
	taskhost.Task("{{name}}.add", add, taskhost.Doc("Adds two numbers."), taskhost.TimeLimit(30*time.Second))
	taskhost.Task("{{name}}.letters", letters,
		taskhost.Doc("Counts the letters of words, and says after each how far it is."), taskhost.MaxRetries(3))
}

// main is never called: clients call the tasks.
func main() {}

// AddArgs are the parameters of add: clients give them in this order, or by these names.
type AddArgs struct {
	X int `json:"x"`
	Y int `json:"y"`
}

func add(_ *taskhost.Context, args AddArgs) (int, error) {
	return args.X + args.Y, nil
}

// LettersArgs are the parameters of letters.
type LettersArgs struct {
	Words []string `json:"words"`
}

func letters(ctx *taskhost.Context, args LettersArgs) (int, error) {
	if len(args.Words) == 0 {
		return 0, taskhost.NewRetry().Countdown(time.Second).Cause(taskhost.NewError("ValueError", "no words"))
	}
	letters := 0
	for i, word := range args.Words {
		letters += utf8.RuneCountInString(word)
		ctx.Progress(i+1, len(args.Words))
	}
	return letters, nil
}
