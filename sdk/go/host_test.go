package taskhost_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"taskhost.dev/taskhost"
	"taskhost.dev/taskhost/taskhosttest"
)

func TestATaskSeesItsRequest(t *testing.T) {
	h := (&taskhosttest.Host{RequestJSON: `{"root_id": "r", "delivery_info": {"priority": 5}}`}).Use(t)
	ctx := taskhost.NewContext("id", "tasks.add", 2)
	if ctx.ID() != "id" || ctx.Task() != "tasks.add" || ctx.Retries() != 2 || ctx.Request()["root_id"] != "r" {
		t.Error(ctx.Request())
	}
	h.RequestJSON = `{"headers": {"x": NaN}, "root_id": "s"}`
	ctx = taskhost.NewContext("id", "tasks.add", 2)
	if found := ctx.Request(); found["root_id"] != "s" || found["headers"] != nil {
		t.Error("odd tokens hide what holds them, and nothing else:", found)
	}
}

func TestAContextIsDoneWhenItIsCancelled(t *testing.T) {
	h := (&taskhosttest.Host{TimeLimit: time.Minute}).Use(t)
	ctx := taskhost.NewContext("id", "tasks.add", 0)
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > time.Minute || ctx.Err() != nil {
		t.Error(deadline, ok, ctx.Err())
	}
	h.Stop = true
	<-ctx.Done()
	if !errors.Is(ctx.Err(), context.Canceled) {
		t.Error(ctx.Err())
	}
	h.TimeLimit = 0
	if _, ok := taskhost.NewContext("id", "tasks.add", 0).Deadline(); ok {
		t.Error("time has no end")
	}
}

func TestAStateIsReportedWithItsMeta(t *testing.T) {
	h := (&taskhosttest.Host{}).Use(t)
	ctx := taskhost.NewContext("id", "tasks.add", 0)
	ctx.Progress(1, 3)
	var invalid *taskhost.InvalidError
	if err := ctx.UpdateState("SUCCESS", nil); !errors.As(err, &invalid) {
		t.Error(err)
	}
	err := ctx.UpdateState("HALFWAY", func() {})
	check(t, err.Error(), "the meta is not JSON serializable: unsupported type: func()")
	if err := ctx.SendEvent("task-x", map[string]int{"x": 1}); err != nil {
		t.Error(err)
	}
	if !reflect.DeepEqual(h.States, []taskhosttest.State{{Name: "PROGRESS", Meta: `{"current": 1, "total": 3}`}}) || h.Events[0].Name != "task-x" {
		t.Error(h.States, h.Events)
	}
}

func TestCallsArePublished(t *testing.T) {
	h := (&taskhosttest.Host{Results: map[string]taskhost.JSON{
		"call-2": `{"task_id": "call-2", "state": "SUCCESS", "result": [NaN], "traceback": null}`,
	}}).Use(t)
	ctx := taskhost.NewContext("id", "tasks.add", 0)
	if _, err := ctx.Publish(taskhost.NewSignature("t.a", 1)); err != nil {
		t.Error(err)
	}
	applied, err := ctx.ApplyNow(taskhost.NewSignature("t.b"))
	if err != nil || applied.ID() != "call-2" || applied.Parent() != nil {
		t.Error(applied, err)
	}
	joined, err := ctx.Join(applied, time.Second)
	if err != nil || len(joined) != 1 || !joined[0].Success() || joined[0].Result != "[NaN]" {
		t.Error(joined, err)
	}
	var late *taskhost.TimedOutError
	if _, err := ctx.Wait("call-1", time.Second); !errors.As(err, &late) {
		t.Error(err)
	}
	if result, err := ctx.Result("call-1"); err != nil || result.State != "PENDING" || result.Ready() {
		t.Error(result, err)
	}
	if h.Published[0].Now || !h.Published[1].Now || h.Published[1].Signature.Task() != "t.b" {
		t.Error(h.Published)
	}
	h.Refuse = "publish `t.a` is not granted"
	var denied *taskhost.DeniedError
	if _, err := ctx.Publish(taskhost.NewSignature("t.a")); !errors.As(err, &denied) {
		t.Error(err)
	}
	if _, err := ctx.AddToChord(taskhost.NewSignature("t.a")); err == nil || err.Error() != "Current task is not member of any chord" {
		t.Error(err)
	}
}

func TestWhereResultsWillBeIsCelerysTuple(t *testing.T) {
	text := taskhost.JSON(`[["g", [["h", null], null]], [[["a", null], null], [["b", [["c", null], null]], null]]]`)
	var group taskhost.AsyncResult
	if err := text.Parse(&group); err != nil || group.ID() != "g" || group.Parent().ID() != "h" || group.Parent().Parent() != nil {
		t.Fatal(group, err)
	}
	children, isGroup := group.Children()
	if !isGroup || len(children) != 2 || children[1].Parent().ID() != "c" {
		t.Error(children)
	}
	if _, isGroup := children[0].Children(); isGroup {
		t.Error("a task has no children")
	}
	for _, wrong := range []taskhost.JSON{"null", `"id"`, "[]", `["id", null]`, `[[1, null], null]`, `[["id"], null]`} {
		if wrong.Parse(&group) == nil {
			t.Error(wrong)
		}
	}
}

func TestWhatIsNotLentIsDenied(t *testing.T) {
	(&taskhosttest.Host{
		Settings: map[string]string{"region": "eu"},
		Buckets:  map[string]map[string][]byte{"cache": {"n": []byte("1")}},
	}).Use(t)
	if value, err := taskhost.Config("region"); err != nil || value != "eu" {
		t.Error(value, err)
	}
	var denied *taskhost.DeniedError
	if _, err := taskhost.Secret("key"); !errors.As(err, &denied) {
		t.Error(err)
	}
	var none *taskhost.BucketError
	if _, err := taskhost.OpenBucket("other"); !errors.As(err, &none) {
		t.Error(err)
	}
	bucket, err := taskhost.OpenBucket("cache")
	if err != nil {
		t.Fatal(err)
	}
	if n, err := bucket.Increment("n", 2); n != 3 || err != nil {
		t.Error(n, err)
	}
	done, err := bucket.Update("k", func(value []byte) []byte { return append(value, 'x') })
	value, ok, _ := bucket.Get("k")
	if !done || err != nil || !ok || string(value) != "x" {
		t.Error(done, err, value)
	}
	if keys, err := bucket.Keys(); err != nil || !reflect.DeepEqual(keys, []string{"k", "n"}) {
		t.Error(keys, err)
	}
	if gone, err := bucket.Update("k", func([]byte) []byte { return nil }); gone || err != nil {
		t.Error(gone, err)
	}
}

func TestWithoutAHostNothingIsPublishedOrLent(t *testing.T) {
	ctx := taskhost.NewContext("id", "tasks.add", 0)
	_, err := ctx.Publish(taskhost.NewSignature("t.a"))
	check(t, err.Error(), "calls are published by a host, and this is none")
	_, err = taskhost.Config("region")
	check(t, err.Error(), "config `region` is lent by a host, and this is none")
	_, err = taskhost.OpenBucket("cache")
	check(t, err.Error(), "bucket `cache` is kept by a host, and this is none")
	if ctx.Cancelled() || ctx.UpdateState("HALFWAY", nil) != nil {
		t.Error("states go nowhere, and that is no error")
	}
}

func TestLinesOfTheLogHaveALevelAndAttributes(t *testing.T) {
	h := (&taskhosttest.Host{}).Use(t)
	log := slog.New(&taskhost.LogHandler{}).With("a", 1).WithGroup("g").With("b", "x y")
	log.Info("text", "c", true, slog.Group("h", "d", "ü"))
	log.Debug("not written")
	log.Error("")
	expected := []string{`info: text a=1 g.b="x y" g.c=true g.h.d=ü`, `error:  a=1 g.b="x y"`}
	if !reflect.DeepEqual(h.Lines, expected) {
		t.Errorf("%q", h.Lines)
	}
}
