import assert from "node:assert/strict";
import { test } from "node:test";

import { Json, elements, members, parse, write } from "../lib/json.js";

test("what the native parser knows is read by it, and what it would get wrong is not", () => {
  assert.deepEqual(parse('{"a": [1, 2.5, "x", null, true]}'), { a: [1, 2.5, "x", null, true] });
  const digits = "7".repeat(300);
  assert.equal(parse(digits), BigInt(digits));
  assert.equal(parse("-9007199254740993"), -9007199254740993n);
  assert.equal(parse("9007199254740992"), 2 ** 53);
  assert.equal(parse("9007199254740991"), Number.MAX_SAFE_INTEGER);
  assert.deepEqual(parse("[NaN, Infinity, -Infinity]"), [NaN, Infinity, -Infinity]);
  assert.equal(parse("1234567890123456.5"), 1234567890123456.5);
  assert.equal(parse("1e400"), Infinity, "as Python reads it");
  assert.deepEqual(parse('["NaN", "\\ud800", {"1234567890123456": -0.0}]'), ["NaN", "\ud800", { 1234567890123456: -0 }]);
});

test("a name that would set something else is a name", () => {
  const read = parse('{"__proto__": NaN, "constructor": 1}');
  assert.deepEqual(Object.keys(read), ["__proto__", "constructor"]);
  assert.equal(Object.getPrototypeOf(read), Object.prototype);
});

test("what is no JSON is told with its place", () => {
  for (const text of ["NaN,", "[NaN", '{"a" NaN}', "01NaN", "nul1234567890123456", "[1234567890123456,]", "'NaN'"]) {
    assert.throws(() => parse(text), SyntaxError, text);
  }
  assert.throws(() => parse("[NaN, ?]"), /unexpected "\?" at position 6/);
});

test("everything that is read is written", () => {
  const odd = `{"a":[${"9".repeat(300)},NaN,-Infinity,"\\ud800",null],"b":{}}`;
  assert.equal(write(parse(odd)), odd);
  for (const value of [1, "x", [1, { a: [] }], "null", null, true]) assert.equal(write(value), JSON.stringify(value));
});

test("what the native writer would lose is kept, or is an error", () => {
  assert.equal(write(undefined), "null");
  assert.equal(write([undefined, NaN]), "[null,NaN]");
  assert.equal(write({ a: undefined, b: 2n ** 64n }), '{"b":18446744073709551616}');
  assert.equal(write(new Map([["a", new Set([1, 2])]])), '{"a":[1,2]}');
  assert.equal(write([new Uint8Array([1, 2])]), "[[1,2]]");
  assert.equal(write({ when: new Date(0), none: null }), '{"when":"1970-01-01T00:00:00.000Z","none":null}');
  assert.equal(write([new Json("1.0"), { a: new Json("-0.0") }]), '[1.0,{"a":-0.0}]');
  const loop = { none: null };
  loop.self = loop;
  assert.throws(() => write(loop), /a circular structure is not JSON serializable/);
  assert.throws(() => write([1n, () => 1]), /a function is not JSON serializable/);
});

test("texts are cut without being parsed", () => {
  assert.deepEqual(elements(' [1.0, "a,]", {"b": [NaN]} ] '), ["1.0", '"a,]"', '{"b": [NaN]}']);
  assert.deepEqual([...members('{"a": 1.0, "ü\\n": {}}')], [["a", "1.0"], ["ü\n", "{}"]]);
  assert.throws(() => elements("[1] 2"), SyntaxError);
});

test("a hundred levels are no trouble", () => {
  const text = `${"[".repeat(100)}NaN${"]".repeat(100)}`;
  assert.equal(write(parse(text)), text);
});
