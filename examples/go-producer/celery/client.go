// Package celery calls tasks over AMQP as Celery does: protocol 2, JSON, and results that come back as messages (rpc://).
//
// It knows no task and no worker. There are no retries, canvases or other serialisers in it.
package celery

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Client publishes calls to one queue, and gets their results from a queue of its own.
type Client struct {
	connection *amqp.Connection
	channel    *amqp.Channel
	queue      string
	replies    string
	origin     string

	mutex   sync.Mutex
	waiting map[string]chan Result
	gone    error
}

// Result is what a worker says of a task: a state, and what it returned or raised.
type Result struct {
	TaskID    string          `json:"task_id"`
	Status    string          `json:"status"`
	Result    json.RawMessage `json:"result"`
	Traceback *string         `json:"traceback"`
}

// Exception is how a task failed, as Celery writes it.
type Exception struct {
	Type    string `json:"exc_type"`
	Message []any  `json:"exc_message"`
	Module  string `json:"exc_module"`
}

func (e *Exception) Error() string {
	if len(e.Message) == 1 {
		return fmt.Sprintf("%s: %v", e.Type, e.Message[0])
	}
	return fmt.Sprintf("%s: %v", e.Type, e.Message)
}

// Dial connects to a broker.
func Dial(url, queue string) (*Client, error) {
	connection, err := amqp.Dial(url)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	client := &Client{connection: connection, queue: queue, waiting: map[string]chan Result{}}
	if err := client.open(); err != nil {
		connection.Close()
		return nil, err
	}
	return client, nil
}

func (c *Client) open() error {
	var err error
	if c.channel, err = c.connection.Channel(); err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	// As Celery declares it: durable, so that what nobody has taken yet outlives the broker.
	if _, err := c.channel.QueueDeclare(c.queue, true, false, false, false, nil); err != nil {
		return fmt.Errorf("declare the queue %s: %w", c.queue, err)
	}
	replies, err := c.channel.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		return fmt.Errorf("declare the queue of replies: %w", err)
	}
	c.replies = replies.Name
	deliveries, err := c.channel.Consume(c.replies, "", true, true, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume replies: %w", err)
	}
	if err := c.channel.Confirm(false); err != nil {
		return fmt.Errorf("ask for confirms: %w", err)
	}
	host, _ := os.Hostname()
	c.origin = fmt.Sprintf("gen%d@%s", os.Getpid(), host)
	go c.receive(deliveries)
	return nil
}

// Close ends the connection.
func (c *Client) Close() error {
	return c.connection.Close()
}

// Call calls a task, and waits until the broker has the call.
func (c *Client) Call(ctx context.Context, task string, args []any, kwargs map[string]any) (*Call, error) {
	if args == nil {
		args = []any{}
	}
	if kwargs == nil {
		kwargs = map[string]any{}
	}
	embed := map[string]any{"callbacks": nil, "errbacks": nil, "chain": nil, "chord": nil}
	body, err := json.Marshal([]any{args, kwargs, embed})
	if err != nil {
		return nil, fmt.Errorf("arguments of %s: %w", task, err)
	}
	id := newID()
	call := &Call{id, make(chan Result, 1), c}
	c.mutex.Lock()
	c.waiting[id] = call.done
	c.mutex.Unlock()
	confirm, err := c.channel.PublishWithDeferredConfirmWithContext(ctx, "", c.queue, false, false, amqp.Publishing{
		Headers: amqp.Table{
			"lang": "go", "task": task, "id": id, "root_id": id, "parent_id": nil, "group": nil,
			"argsrepr": fmt.Sprint(args), "kwargsrepr": fmt.Sprint(kwargs), "origin": c.origin,
			"retries": int32(0), "timelimit": []any{nil, nil}, "eta": nil, "expires": nil,
		},
		ContentType:     "application/json",
		ContentEncoding: "utf-8",
		DeliveryMode:    amqp.Persistent,
		CorrelationId:   id,
		ReplyTo:         c.replies,
		Body:            body,
	})
	if err == nil {
		_, err = confirm.WaitContext(ctx)
	}
	if err != nil {
		call.forget()
		return nil, fmt.Errorf("publish %s: %w", task, err)
	}
	return call, nil
}

// Call is a task that was called.
type Call struct {
	ID     string
	done   chan Result
	client *Client
}

// Get waits for the end of the task, and reads what it returned into what result points to. How it failed is an
// [*Exception].
func (c *Call) Get(ctx context.Context, result any) error {
	defer c.forget()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", c.ID, ctx.Err())
	case got, ok := <-c.done:
		switch {
		case !ok:
			return fmt.Errorf("wait for %s: %w", c.ID, c.client.gone)
		case got.Status == "SUCCESS":
			return json.Unmarshal(got.Result, result)
		}
		failed := &Exception{}
		if err := json.Unmarshal(got.Result, failed); err != nil {
			return fmt.Errorf("%s ended as %s: %w", c.ID, got.Status, err)
		}
		return failed
	}
}

func (c *Call) forget() {
	c.client.mutex.Lock()
	defer c.client.mutex.Unlock()
	delete(c.client.waiting, c.ID)
}

// receive gives results to those who wait for them, until the connection ends.
func (c *Client) receive(deliveries <-chan amqp.Delivery) {
	for delivery := range deliveries {
		var got Result
		if err := json.Unmarshal(delivery.Body, &got); err != nil {
			continue // somebody's message, and nobody's result
		}
		if got.Status != "SUCCESS" && got.Status != "FAILURE" && got.Status != "REVOKED" {
			continue // how far it is
		}
		c.mutex.Lock()
		if done, ok := c.waiting[got.TaskID]; ok {
			delete(c.waiting, got.TaskID)
			done <- got
		}
		c.mutex.Unlock()
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.gone = amqp.ErrClosed
	for id, done := range c.waiting {
		close(done)
		delete(c.waiting, id)
	}
}

// newID makes a UUID, as Celery's ids are.
func newID() string {
	var id [16]byte
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}
