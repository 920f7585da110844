import assert from "node:assert/strict";
import { test } from "node:test";

import { Json, context, task } from "../index.js";
import { fromText } from "../lib/parameters.js";

const call = (made, args = "[]", kwargs = "{}") => made(...made.definition.bind(args, kwargs));
const wrong = (made, args, kwargs) => {
  try {
    call(made, args, kwargs);
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
  return "nothing";
};

test("a task is the function that it was made of", () => {
  const add = task({ name: "tasks.add", maxRetries: null, default_retry_delay: 2, autoretryFor: [RangeError, "OSError"], queue: undefined }, (x, y = 2) => x + y);
  assert.equal(add(1), 3);
  assert.deepEqual([add.taskName, add.length], ["tasks.add", 1]);
  assert.deepEqual(add.definition.options, [["max_retries", null], ["default_retry_delay", 2], ["autoretry_for", ["RangeError", "OSError"]]]);
  assert.deepEqual(add.s(1).toJSON().args, [1]);
  assert.equal(add.si(1, 2).toJSON().immutable, true);
  assert.throws(() => task(add), /is a task already/);
  assert.throws(() => task((x) => x).s(1), /this task has no name yet/);
});

test("arguments come by position and by name, and wrong ones are the errors of Python", () => {
  const greet = task({ name: "t.greet" }, (name, greeting = "Hello", punctuation = "!") => `${greeting}, ${name}${punctuation}`);
  assert.equal(call(greet, '["Ann"]'), "Hello, Ann!");
  assert.equal(call(greet, '["Ann"]', '{"punctuation": "?"}'), "Hello, Ann?");
  assert.equal(wrong(greet), "TypeError: greet() missing 1 required positional argument: 'name'");
  assert.equal(wrong(greet, "[1,2,3,4]"), "TypeError: greet() takes from 1 to 3 positional arguments but 4 were given");
  assert.equal(wrong(greet, "[1]", '{"colour": 1}'), "TypeError: greet() got an unexpected keyword argument 'colour'");
  assert.equal(wrong(greet, "[1]", '{"name": 1}'), "TypeError: greet() got multiple values for argument 'name'");
  const three = task({ name: "t.three" }, (x, y, z) => [x, y, z]);
  assert.equal(wrong(three), "TypeError: three() missing 3 required positional arguments: 'x', 'y', and 'z'");
  assert.equal(wrong(three, "[1]"), "TypeError: three() missing 2 required positional arguments: 'y' and 'z'");
  assert.equal(wrong(task({ name: "t.none" }, () => 1), "[1]"), "TypeError: none() takes 0 positional arguments but 1 was given");
});

test("names in camelCase have Python's spelling too", () => {
  const fetch = task({ name: "t.fetch" }, (imageUrl, maxBytes = 5) => [imageUrl, maxBytes]);
  assert.deepEqual(call(fetch, "[]", '{"image_url": "u", "max_bytes": 7}'), ["u", 7]);
  assert.deepEqual(call(fetch, "[]", '{"imageUrl": "u"}'), ["u", 5]);
});

test("further arguments are taken where the function takes them", () => {
  const collect = task({ name: "t.collect", kwargs: "kwargs" }, (first, kwargs, ...args) => ({ first, args, kwargs }));
  assert.deepEqual(call(collect, "[1, 2, 3]", '{"a": 4}'), { first: 1, args: [2, 3], kwargs: { a: 4 } });
  assert.deepEqual(call(collect, "[]", '{"first": 1}'), { first: 1, args: [], kwargs: {} });
  assert.deepEqual(collect.definition.schema(), { type: "object", properties: { first: {} }, required: ["first"], additionalProperties: true, "x-args": 1 });
});

test("types are checked, and are in the schema", () => {
  const resize = task(
    { name: "t.resize", params: { url: "string", width: "integer", height: "integer|null", raw: "json?" } },
    (url, width, height = null, raw) => [url, width, height, raw],
  );
  assert.deepEqual(resize.definition.schema(), {
    type: "object",
    properties: { url: { type: "string" }, width: { type: "integer" }, height: { type: ["integer", "null"], default: null }, raw: {} },
    required: ["url", "width"],
    additionalProperties: false,
  });
  assert.equal(wrong(resize, "[5, 1]"), "TypeError: resize() argument 'url' must be string, not number");
  assert.equal(wrong(resize, '["u", 1.5]'), "TypeError: resize() argument 'width' must be integer, not number");
  assert.equal(wrong(resize, '["u", 1]', '{"height": []}'), "TypeError: resize() argument 'height' must be integer or null, not array");
  const [, width, , raw] = call(resize, '["u", 12345678901234567890]', '{"raw": [1.0, NaN]}');
  assert.equal(width, 12345678901234567890n);
  assert.ok(raw instanceof Json && raw.text === "[1.0, NaN]", "byte for byte");
});

test("what cannot be known is told when the task is declared", () => {
  assert.throws(() => task({ name: "t.a" }, ({ x }) => x), /task t\.a: parameter 1 is taken apart and so has no name/);
  assert.throws(() => task({ name: "t.b", params: { z: "string" } }, (x) => x), /task t\.b: params names 'z', but the function takes \(x\)/);
  assert.throws(() => task({ name: "t.c", params: { x: "text" } }, (x) => x), /task t\.c: parameter 'x': unknown type 'text'/);
  assert.throws(() => task({ name: "t.d", kwargs: "all" }, (x) => x), /task t\.d: kwargs names 'all', which is no parameter/);
  assert.throws(() => task({ name: "" }, () => 1), /the name is a text/);
  assert.throws(() => task("t.e"), /task\(\) takes options and a function/);
  const apart = task({ name: "t.f", params: ["point", "scale?"] }, ({ x }, scale = 2) => x * scale);
  assert.equal(call(apart, '[{"x": 3}]'), 6);
});

test("parameters are read from any text of a function", () => {
  const names = (text) => fromText(text)?.map(({ name, rest, optional }) => `${rest ? "..." : ""}${name}${optional ? "?" : ""}`).join(" ");
  for (const [text, expected] of [
    ["x => x", "x"],
    ["async x => x", "x"],
    ["(x, y) => x", "x y"],
    ["async (x) => x", "x"],
    ["async(x) => x", "x"],
    ["function add(x, /* , */ y = \"a,)\", z = [1, {b: (2)}]) {}", "x y? z?"],
    ["async function add(x) {}", "x"],
    ["function* f(x, ...rest) {}", "x ...rest"],
    ["method(x, ) {}", "x"],
    ["() => 1", ""],
    ["(x, // first, of all\n y) => 1", "x y"],
    // As esbuild writes async functions.
    ["(..._0) => __async(null, [..._0], function* (x, y = 1) { yield x; })", "x y?"],
    ["function(..._0) {\n  return __async(this, [..._0], function* (x, ...y) {\n  });\n}", "x ...y"],
    ["(x, y) => __async(null, null, function* () {})", "x y"],
    ["class A { constructor(x) {} }", undefined],
  ]) {
    assert.equal(names(text), expected, text);
  }
});

test("a context is there while a task runs, and not before", () => {
  assert.throws(() => context(), /a test gives it one: withContext/);
});
