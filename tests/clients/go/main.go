// gocelery: protocol 1.
//
// Told where to go by BROKER, BACKEND and QUEUE. Prints one line of JSON: for each call its name and how it ended.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/gocelery/gocelery"
	"github.com/gomodule/redigo/redis"
	"github.com/streadway/amqp"
)

// How long a result may take, and how many calls there are at the same time in the last one.
const (
	patience = 80 * time.Second
	many     = 1000
)

func main() {
	time.AfterFunc(patience, func() {
		fmt.Fprintln(os.Stderr, "not done after", patience)
		os.Exit(1)
	})
	outcomes, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(outcomes)
}

func run() (map[string]any, error) {
	broker, backend, err := connect(os.Getenv("BROKER"), os.Getenv("BACKEND"))
	if err != nil {
		return nil, err
	}
	client, err := gocelery.NewCeleryClient(broker, backend, 0)
	if err != nil {
		return nil, err
	}
	outcomes := map[string]any{}
	positional := func(name, task string, args ...any) error {
		result, err := client.Delay(task, args...)
		if err != nil {
			return err
		}
		outcomes[name], err = outcome(backend, result)
		return err
	}
	keyword := func(name, task string, kwargs map[string]any) error {
		result, err := client.DelayKwargs(task, kwargs)
		if err != nil {
			return err
		}
		outcomes[name], err = outcome(backend, result)
		return err
	}
	for _, err := range []error{
		positional("positional", "tasks.add", 2, 3),
		keyword("keyword", "tasks.add", map[string]any{"x": 40, "y": 2}),
		positional("large", "tasks.add", 1<<53-2, 1),
		positional("unicode", "tasks.echo", "naïve ☃ 🦀"),
		positional("nested", "tasks.echo", map[string]any{"list": []any{1, nil, true, 2.5}, "empty": map[string]any{}}),
		positional("retried", "tasks.flaky", 1),
		positional("failure", "tasks.fail", "no luck"),
		positional("unknown", "tasks.missing"),
	} {
		if err != nil {
			return nil, err
		}
	}
	results := make([]*gocelery.AsyncResult, many)
	for number := range results {
		if results[number], err = client.Delay("tasks.add", number, 0); err != nil {
			return nil, err
		}
	}
	sum := 0.0
	for _, result := range results {
		end, err := outcome(backend, result)
		if err != nil {
			return nil, err
		}
		sum += end[1].(float64)
	}
	outcomes["many"] = []any{"value", sum}
	return outcomes, nil
}

// outcome waits for the end of a call. AsyncResult.Get takes a failure for a result that is not there yet and waits on,
// so whoever wants to see failures asks the backend, as this does.
func outcome(backend gocelery.CeleryBackend, call *gocelery.AsyncResult) ([]any, error) {
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(10 * time.Millisecond) {
		message, err := backend.GetResult(call.TaskID)
		switch {
		case err != nil && strings.Contains(err.Error(), "not available"):
		case err != nil:
			return nil, err
		case message.Status == "SUCCESS":
			return []any{"value", message.Result}, nil
		case message.Status == "FAILURE":
			failure := message.Result.(map[string]any)
			return []any{"error", []any{"FAILURE", failure["exc_type"], failure["exc_message"]}}, nil
		}
	}
	return nil, fmt.Errorf("no result of %s", call.TaskID)
}

func connect(brokerURL, backendURL string) (gocelery.CeleryBroker, gocelery.CeleryBackend, error) {
	var backend gocelery.CeleryBackend
	if strings.HasPrefix(backendURL, "redis:") {
		backend = gocelery.NewRedisBackend(pool(backendURL))
	} else {
		backend = gocelery.NewAMQPCeleryBackend(backendURL)
	}
	if strings.HasPrefix(brokerURL, "redis:") {
		broker := gocelery.NewRedisBroker(pool(brokerURL))
		broker.QueueName = os.Getenv("QUEUE")
		return broker, backend, nil
	}
	// NewAMQPCeleryBroker would take tasks from the queue and keep them, worker or not. It always publishes to `celery`.
	connection, err := amqp.Dial(brokerURL)
	if err != nil {
		return nil, nil, err
	}
	channel, err := connection.Channel()
	return &gocelery.AMQPCeleryBroker{Channel: channel, Connection: connection}, backend, err
}

func pool(url string) *redis.Pool {
	return &redis.Pool{MaxIdle: 3, Dial: func() (redis.Conn, error) { return redis.DialURL(url) }}
}
