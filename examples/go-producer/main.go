// A service in Go that has formulas of its users worked out in a sandbox.
//
// The formulas come from strangers, so the service does not look into them: it hands them to a worker, as a Celery client.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"producer/celery"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run has each line of stdin worked out, all of them at the same time, and prints the tables in order.
func run() error {
	client, err := celery.Dial(setting("CELERY_BROKER_URL", "amqp://guest:guest@localhost:5672//"), setting("QUEUE", "formulas"))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	xs := []float64{0, 1, 2, 3}
	var formulas []string
	var calls []*celery.Call
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		call, err := client.Call(ctx, "formulas.table", []any{lines.Text(), xs}, map[string]any{"names": map[string]float64{"rate": 0.5}})
		if err != nil {
			return err
		}
		formulas, calls = append(formulas, lines.Text()), append(calls, call)
	}
	for i, call := range calls {
		var values []float64
		var failed *celery.Exception
		switch err := call.Get(ctx, &values); {
		case errors.As(err, &failed):
			fmt.Printf("%s: %v\n", formulas[i], failed)
		case err != nil:
			return err
		default:
			fmt.Printf("%s: %v\n", formulas[i], values)
		}
	}
	return nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
