// The plugin that every language has, for the suite that holds all of them to the same contract.
package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"os"
	"strings"
	"time"

	"taskhost.dev/taskhost"
)

func init() {
	taskhost.Task("contract.add", add, taskhost.Doc("Adds two numbers."))
	taskhost.Task("contract.echo", echo)
	taskhost.Task("contract.parsed", parsed)
	taskhost.Task("contract.greet", greet)
	taskhost.Task("contract.collect", collect)
	taskhost.Task("contract.fail", fail)
	taskhost.Task("contract.crash", crash)
	taskhost.Task("contract.context", describe)
	taskhost.Task("contract.graceful", graceful, taskhost.HandlesSoftLimit(),
		taskhost.SoftTimeLimit(time.Second), taskhost.TimeLimit(30*time.Second))
	taskhost.Task("contract.soft", soft, taskhost.SoftTimeLimit(time.Second), taskhost.TimeLimit(30*time.Second))
	taskhost.Task("contract.spin", spin, taskhost.TimeLimit(time.Second))
	taskhost.Task("contract.hog", hog)
	taskhost.Task("contract.recurse", recurse)
	taskhost.Task("contract.flood", flood)
	taskhost.Task("contract.log", writeLog)
	taskhost.Task("contract.config", config)
	taskhost.Task("contract.secret", secret)
	taskhost.Task("contract.keep", keep)
	taskhost.Task("contract.options", options,
		taskhost.Doc("Has every option."),
		taskhost.Queue("slow"),
		taskhost.MaxRetries(7),
		taskhost.DefaultRetryDelay(1500*time.Millisecond),
		taskhost.RateLimit("10/m"),
		taskhost.TimeLimit(20*time.Second),
		taskhost.SoftTimeLimit(10*time.Second),
		taskhost.AcksLate(false),
		taskhost.IgnoreResult(false),
		taskhost.TrackStarted(true),
		taskhost.RetryBackoff(true))
}

func main() {}

// AddArgs are numbers of any size, whole or not.
type AddArgs struct {
	X json.Number `json:"x"`
	Y json.Number `json:"y"`
}

func add(_ *taskhost.Context, args AddArgs) (any, error) {
	return total(args.X, args.Y)
}

// total is a whole number of any size if all of them are, and else a float.
func total(numbers ...json.Number) (any, error) {
	whole, float, isWhole := new(big.Int), 0.0, true
	for _, number := range numbers {
		if next, ok := new(big.Int).SetString(number.String(), 10); ok {
			whole.Add(whole, next)
		} else {
			isWhole = false
		}
		next, err := number.Float64()
		if err != nil && !isWhole {
			return nil, taskhost.Errorf("OverflowError", "%s is too large for a float", number)
		}
		float += next
	}
	if isWhole {
		return whole, nil
	}
	return float, nil
}

// EchoArgs keeps the text of a value.
type EchoArgs struct {
	Value taskhost.JSON `json:"value"`
}

func echo(_ *taskhost.Context, args EchoArgs) (taskhost.JSON, error) {
	return args.Value, nil
}

// ParsedArgs has whatever encoding/json makes of a value.
type ParsedArgs struct {
	Value any `json:"value"`
}

func parsed(_ *taskhost.Context, args ParsedArgs) (any, error) {
	return args.Value, nil
}

// GreetArgs have defaults.
type GreetArgs struct {
	Name        string `json:"name"`
	Greeting    string `json:"greeting" default:"Hello"`
	Punctuation string `json:"punctuation" default:"!"`
}

func greet(_ *taskhost.Context, args GreetArgs) (string, error) {
	return args.Greeting + ", " + args.Name + args.Punctuation, nil
}

// CollectArgs takes anything.
type CollectArgs struct {
	Args   []taskhost.JSON          `taskhost:"args"`
	Kwargs map[string]taskhost.JSON `taskhost:"kwargs"`
}

// Collected is what was taken.
type Collected struct {
	Args   []taskhost.JSON          `json:"args"`
	Kwargs map[string]taskhost.JSON `json:"kwargs"`
}

func collect(_ *taskhost.Context, args CollectArgs) (Collected, error) {
	return Collected(args), nil
}

// FailArgs say how.
type FailArgs struct {
	Kind string `json:"kind" default:"value"`
}

// ContractError is an error of this plugin.
type ContractError struct {
	text  string
	cause error
}

func (e *ContractError) Error() string { return e.text }
func (e *ContractError) Unwrap() error { return e.cause }

func fail(_ *taskhost.Context, args FailArgs) (taskhost.None, error) {
	var err error
	switch args.Kind {
	case "own":
		err = deeper()
	case "chained":
		err = taskhost.Trace(&ContractError{"outer", taskhost.NewError("ValueError", "inner")})
	case "empty":
		err = &ContractError{}
	default:
		err = taskhost.NewError("ValueError", "bad value", 42)
	}
	return taskhost.None{}, err
}

func deeper() error {
	return taskhost.Trace(&ContractError{text: "own trouble"})
}

func crash(*taskhost.Context, taskhost.None) (string, error) {
	var nobody *ContractError
	return nobody.text, nil
}

// Facts are what a task knows about itself.
type Facts struct {
	ID        string  `json:"id"`
	Task      string  `json:"task"`
	Retries   int     `json:"retries"`
	Cancelled bool    `json:"cancelled"`
	Remaining float64 `json:"remaining"`
	RootID    any     `json:"root_id"`
	Queue     any     `json:"queue"`
}

func describe(ctx *taskhost.Context, _ taskhost.None) (Facts, error) {
	request := ctx.Request()
	delivery, _ := request["delivery_info"].(map[string]any)
	return Facts{
		ctx.ID(), ctx.Task(), ctx.Retries(), ctx.Cancelled(), ctx.Remaining().Seconds(),
		request["root_id"], delivery["routing_key"],
	}, nil
}

// GracefulArgs say for how long.
type GracefulArgs struct {
	Seconds float64 `json:"seconds" default:"60"`
}

func graceful(ctx *taskhost.Context, args GracefulArgs) (string, error) {
	select {
	case <-ctx.Done():
		return "cancelled", nil
	case <-time.After(time.Duration(args.Seconds * float64(time.Second))):
		return "finished", nil
	}
}

func soft(*taskhost.Context, taskhost.None) (taskhost.None, error) {
	time.Sleep(20 * time.Second)
	return taskhost.None{}, nil
}

func spin(*taskhost.Context, taskhost.None) (taskhost.None, error) {
	for n := uint64(1); ; n++ {
		if n == 0 {
			return taskhost.None{}, nil
		}
	}
}

func hog(*taskhost.Context, taskhost.None) (int, error) {
	var all [][]byte
	for {
		all = append(all, []byte(strings.Repeat("x", 1<<20)))
		if len(all) > math.MaxInt32 {
			return len(all), nil
		}
	}
}

func recurse(*taskhost.Context, taskhost.None) (int, error) {
	return depth(1), nil
}

func depth(n int) int {
	if n == 0 {
		return 0
	}
	return depth(n+1) + 1
}

// FloodArgs say how much.
type FloodArgs struct {
	Megabytes int `json:"megabytes"`
}

func flood(_ *taskhost.Context, args FloodArgs) (string, error) {
	return strings.Repeat("x", args.Megabytes<<20), nil
}

// LogArgs say what.
type LogArgs struct {
	Text string `json:"text"`
}

func writeLog(_ *taskhost.Context, args LogArgs) (taskhost.None, error) {
	slog.Info(args.Text)
	slog.Warn("warning: " + args.Text)
	fmt.Println("stdout: " + args.Text)
	fmt.Fprintln(os.Stderr, "stderr: "+args.Text)
	return taskhost.None{}, nil
}

// ConfigArgs name a setting.
type ConfigArgs struct {
	Key string `json:"key"`
}

func config(_ *taskhost.Context, args ConfigArgs) (string, error) {
	return taskhost.Config(args.Key)
}

// SecretArgs name a secret.
type SecretArgs struct {
	Name string `json:"name"`
}

func secret(_ *taskhost.Context, args SecretArgs) (int, error) {
	value, err := taskhost.Secret(args.Name)
	return len(value), err
}

// KeepArgs say what is kept where.
type KeepArgs struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Value  string `json:"value"`
}

func keep(_ *taskhost.Context, args KeepArgs) ([]any, error) {
	bucket, err := taskhost.OpenBucket(args.Bucket)
	if err != nil {
		return nil, err
	}
	defer bucket.Close()
	if err := bucket.Set(args.Key, []byte(args.Value)); err != nil {
		return nil, err
	}
	value, _, err := bucket.Get(args.Key)
	if err != nil {
		return nil, err
	}
	n, err := bucket.Increment("n", 2)
	return []any{string(value), n}, err
}

func options(*taskhost.Context, taskhost.None) (taskhost.None, error) {
	return taskhost.None{}, nil
}
