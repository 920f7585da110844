import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import * as loop from "../lib/loop.js";

const { Promise: Own, settle } = loop;
let now;

/** Time passes only where somebody waits. */
beforeEach(() => {
  now = 0;
  loop.reset();
  loop.setClock({
    now: () => now,
    subscribe: (nanoseconds) => ({ due: now + nanoseconds, [Symbol.dispose]() {} }),
    poll(pollables) {
      now = Math.min(...pollables.map(({ due }) => due));
      return pollables.flatMap(({ due }, index) => (due <= now ? [index] : []));
    },
  });
});

const after = (ms, value) => new Own((resolve) => loop.setTimeout(resolve, ms, value));

test("a promise is settled without the engine's own job queue", () => {
  const order = [];
  const promise = Own.resolve(1).then((value) => {
    order.push("then");
    return value + 1;
  });
  order.push("sync");
  assert.equal(settle(promise), 2);
  assert.deepEqual(order, ["sync", "then"]);
  assert.throws(() => settle(Own.reject(new RangeError("no"))), /no/);
  assert.equal(settle(Own.reject(1).catch((reason) => reason + 1)), 2);
  assert.equal(settle(Own.resolve(1).finally(() => after(5))), 1);
});

test("timers fire in the order of their times", () => {
  const order = [];
  const promise = Own.all([after(30, "c"), after(10, "a"), after(20, "b")].map((each) => each.then((name) => (order.push(name), name))));
  assert.deepEqual(settle(promise), ["c", "a", "b"]);
  assert.deepEqual(order, ["a", "b", "c"]);
  assert.equal(now, 30e6);
  let ticks = 0;
  const id = loop.setInterval(() => (ticks += 1) === 3 && loop.clearTimeout(id), 10);
  settle(after(100));
  assert.equal(ticks, 3);
});

test("what never settles is told", () => {
  assert.throws(() => settle(new Own(() => {})), /never settles: nothing is left that could settle it/);
});

test("what is ready wakes who waits for it, and others go on", () => {
  const seen = [];
  const waiting = new Own((resolve) => loop.waitFor({ due: 5e6 }).then(resolve)).then(() => seen.push("io"));
  settle(Own.all([waiting, after(1).then(() => seen.push("first")), after(9).then(() => seen.push("last"))]));
  assert.deepEqual(seen, ["first", "io", "last"]);
  assert.equal(loop.waitFor({ due: 1 }).cancel(), true);
  assert.throws(() => settle(new Own(() => {})), /never settles/, "what was given up is not waited for");
});

test("combinators do what the language's own do", () => {
  const slow = after(50, "slow");
  assert.equal(settle(Own.race([slow, after(1, "fast")])), "fast");
  assert.equal(settle(Own.any([Own.reject(1), after(1, "good")])), "good");
  assert.throws(() => settle(Own.any([])), AggregateError);
  assert.deepEqual(settle(Own.allSettled([Own.reject(1), 2])), [{ status: "rejected", reason: 1 }, { status: "fulfilled", value: 2 }]);
  assert.throws(() => settle(Own.all([1, Own.reject(new Error("one"))])), /one/);
  assert.equal(settle(Own.try(() => 5)), 5);
  assert.equal(settle(Own.resolve({ then: (resolve) => resolve("from a thenable") })), "from a thenable");
  const { promise, resolve } = Own.withResolvers();
  resolve(promise);
  assert.throws(() => settle(promise), /cannot follow itself/);
});

test("a rejection that nobody looks at is not forgotten", () => {
  Own.reject(new Error("lost"));
  Own.reject(new Error("found")).catch(() => {});
  assert.deepEqual(loop.neglected().map((reason) => reason.message), ["lost"]);
});

test("a hundred thousand jobs are no trouble", () => {
  let promise = Own.resolve(0);
  for (let step = 0; step < 100_000; step += 1) promise = promise.then((value) => value + 1);
  assert.equal(settle(promise), 100_000);
});
