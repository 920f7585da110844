import assert from "node:assert/strict";
import { test } from "node:test";

import { AsyncResult, Bucket, Context, PublishUnavailable, ResultUnavailable, Signature, config, context, group, logger, request, secret, task, withContext } from "../index.js";
import { Recorder } from "../testing.js";

const index = task({ name: "t.index" }, (pages) => {
  pages.forEach((page, at) => context().progress(at + 1, pages.length));
  context().sendEvent("task-indexed", { pages: pages.length });
  logger.warn("indexed", pages.length, { of: context().id });
  context().publish("t.done");
  return context().applyNow(group(pages.map((page) => new Signature("t.fetch").args(page))));
});

test("what a task says and sends is recorded", () => {
  const host = new Recorder();
  const result = host.run(() => index(["a", "b"]), { id: "7" });
  assert.ok(result instanceof AsyncResult);
  assert.deepEqual(host.states, [["PROGRESS", { current: 1, total: 2 }], ["PROGRESS", { current: 2, total: 2 }]]);
  assert.deepEqual(host.events, [["task-indexed", { pages: 2 }]]);
  assert.deepEqual(host.lines, [["warn", 'indexed 2 {of: "7"}']]);
  assert.deepEqual([host.published[0].task, host.publishedNow[0].tasks.length], ["t.done", 2]);
});

test("what a task is lent is what a test says", async () => {
  const host = new Recorder({ config: { region: "eu" }, secrets: { key: "k" }, results: { a: [1] }, answers: (url) => ({ status: 201, text: `{"url": "${url}"}` }) });
  await host.run(async () => {
    assert.equal(config("region") + secret("key"), "euk");
    assert.throws(() => config("colour"), { name: "Denied", message: /config `colour` is lent by a host, and this is none/ });
    assert.deepEqual([context().wait("a", 1).result, context().result("b").state], [[1], "PENDING"]);
    const bucket = Bucket.open("cache");
    bucket.set("k", "ü");
    assert.deepEqual([bucket.getText("k"), bucket.get("none"), bucket.increment("n", 2), bucket.increment("n"), bucket.keys()], ["ü", undefined, 2, 3, ["k", "n"]]);
    assert.equal(bucket.update("k", (value) => `${new TextDecoder().decode(value)}!`), true);
    assert.equal(bucket.getText("k"), "ü!");
    assert.deepEqual([request("http://h/").status, request("http://h/").json()], [201, { url: "http://h/" }]);
  });
  assert.throws(() => context(), /is for a task that runs/);
});

test("without a host nothing is published, and nothing is waited for", () => {
  withContext(new Context({ id: "1" }), () => {
    assert.throws(() => context().publish("t.a"), PublishUnavailable);
    assert.throws(() => context().wait("1", 0), ResultUnavailable);
    assert.equal(context().cancelled(), false);
    assert.equal(context().remaining(), Infinity);
    context().updateState("MINE", { a: 1 });
    assert.throws(() => context().addToChord("t.a"), /Current task is not member of any chord/);
  });
  assert.throws(() => Bucket.open("cache"), /bucket `cache` is kept by a host, and this is none/);
});
