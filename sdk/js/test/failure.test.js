import assert from "node:assert/strict";
import { test } from "node:test";

import { Ignore, Json, Reject, Replace, Retry, Signature, TaskError } from "../index.js";
import { failure } from "../lib/failure.js";
import { Places, className } from "../lib/traceback.js";

class OwnError extends Error {}
class Named extends Error {
  name = "NamedError";
}

const failed = (error) => {
  const { tag, val } = failure(error, undefined, "fail");
  assert.equal(tag, "failed");
  return [val.excModule, val.excType, val.arguments];
};

test("an error becomes an exception of its class", () => {
  assert.deepEqual(failed(new OwnError("own trouble")), [null, "OwnError", '["own trouble"]']);
  assert.deepEqual(failed(new Named("n")), [null, "NamedError", '["n"]']);
  assert.deepEqual(failed(new TypeError("t")), ["builtins", "TypeError", '["t"]']);
  assert.deepEqual(failed(new RangeError()), [null, "RangeError", "[]"]);
  assert.deepEqual(failed(new TaskError("KeyError", "k", { arguments: ["k", 2n ** 70n] })), ["builtins", "KeyError", '["k",1180591620717411303424]']);
  assert.deepEqual(failed(new TaskError("X", "", { module: "mine.errors" })), ["mine.errors", "X", "[]"]);
  assert.deepEqual(failed("just text"), [null, "Error", '["just text"]']);
  assert.deepEqual(failed({ code: 5 }), [null, "Error", '["thrown: {\\"code\\":5}"]']);
  assert.equal(className(Object.assign(new Error("x"), { name: "AbortError" })), "AbortError");
});

test("a lone surrogate does not stop an error", () => {
  const { val } = failure(new OwnError("a\ud800b"), undefined, "fail");
  assert.equal(val.arguments, '["a\\ud800b"]');
  assert.ok(val.traceback.isWellFormed());
});

test("the other ends have their own cases", () => {
  assert.deepEqual(failure(new Reject(true)), { tag: "reject", val: true });
  assert.deepEqual(failure(new Ignore()), { tag: "ignore" });
  assert.match(failure(new Replace(new Signature("a"))).val, /^\{"task":"a"/);
  assert.equal(failure(new Replace(5)).tag, "failed", "what is no signature");
  const { tag, val } = failure(new Retry({ countdown: 2.5, maxRetries: 7, args: [1, "a"], cause: new TaskError("ConnectionError", "no route") }), undefined, "f");
  assert.equal(tag, "retry");
  assert.deepEqual({ ...val, cause: val.cause.excType }, { cause: "ConnectionError", delay: { tag: "countdown", val: 2.5 }, maxRetries: 7, args: '[1,"a"]', kwargs: null });
  assert.deepEqual(failure(new Retry({ eta: new Date(0), kwargs: { a: new Json("1.0") } })).val, {
    cause: null, delay: { tag: "eta", val: "1970-01-01T00:00:00.000Z" }, maxRetries: null, args: null, kwargs: '{"a":1.0}',
  });
  assert.equal(failure(new Retry({ args: [() => 1] })).tag, "failed", "arguments that are no JSON");
  assert.throws(() => new Retry({ countdown: -1 }), /countdown takes/);
});

test("a traceback is written as Python writes it, causes first", () => {
  const error = new OwnError("outer", { cause: new TaskError("ValueError", "inner") });
  error.stack = "OwnError: outer\n    at deeper (/plugin/bundle.js:3:7)\n    at fail (/plugin/bundle.js:5:2)\n    at run (/plugin/bundle.js:1:1)\n    at next (native)";
  error.cause.stack = "    at deeper (/plugin/bundle.js:3:12)";
  const places = new Places({
    bundle: "bundle.js",
    sources: [{ name: "" }, { name: "src/index.ts", text: "first\n  throw it;\n" }],
    lines: "0.0.0;;0.1.0 9.1.1;;0.1.4",
  });
  assert.equal(failure(error, places, "fail").val.traceback, [
    "Traceback (most recent call last):",
    '  File "src/index.ts", line 2, in deeper',
    "    throw it;",
    "ValueError: inner",
    "",
    "The above exception was the direct cause of the following exception:",
    "",
    "Traceback (most recent call last):",
    '  File "src/index.ts", line 5, in fail',
    '  File "src/index.ts", line 1, in deeper',
    "    first",
    "OwnError: outer",
    "",
  ].join("\n"));
});
