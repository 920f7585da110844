import assert from "node:assert/strict";
import fs from "node:fs";
import { test } from "node:test";

import { Signature, chain, chord, chunks, group, signature, xmap, xstarmap } from "../index.js";

const all = (...names) => names.map((name) => new Signature(name));
const [a, b, c, d, e] = all("a", "b", "c", "d", "e");
const both = () => group("x", "y");

/** The shape of a canvas in one line, as in the tests of the other SDKs. */
function draw(canvas) {
  const list = (tasks) => tasks.map(draw).join(", ");
  let drawn = canvas.task;
  if (canvas.kind === "chain") drawn = `<${canvas.tasks.map(draw).join(" | ")}>`;
  if (canvas.kind === "group") drawn = `(${list(canvas.tasks)})`;
  if (canvas.kind === "chord") drawn = `[${list(canvas.tasks)} -> ${canvas.body === null ? "nothing" : draw(canvas.body)}]`;
  const { options, immutable } = canvas.toJSON();
  const hung = (name, sign) => (options[name] ?? []).map((other) => sign + draw(Signature.from(other))).join("");
  return `${drawn}${immutable ? "'" : ""}${hung("link", "+")}${hung("link_error", "!")}`;
}

function check(canvas, expected) {
  assert.equal(draw(canvas), expected);
  assert.deepEqual(Signature.from(JSON.stringify(canvas)).toJSON(), canvas.toJSON(), "it comes back as it was");
}

test("tasks are composed by Celery's rules", () => {
  check(a.pipe(b, c), "<a | b | c>");
  check(a.pipe(b.pipe(c)), "<a | b | c>");
  check(a.pipe(both()), "<a | (x, y)>");
  check(a.pipe(both(), b), "<a | [x, y -> b]>");
  check(a.pipe(both(), b, c), "<a | [x, y -> <b | c>]>");
  check(a.pipe(both(), both()), "<a | (x, y) | (x, y)>");
  check(both().pipe(a), "[x, y -> a]");
  check(both().pipe(a, b), "[x, y -> <a | b>]");
  check(both().pipe(both()), "[x, y -> (x, y)]");
  check(both().pipe(both(), a), "[x, y -> [x, y -> a]]");
  check(a.pipe(group("x"), b), "<a | x | b>");
  check(a.pipe(group()), "a");
  check(a.pipe(group(), b), "<a | b>");
  check(chord(["x"], a).pipe(group("x")), "[x -> <a | x>]");
  check(chord(["x"], a).pipe(both()), "<[x -> a] | (x, y)>");
  check(chord(["x"], a).pipe(b.pipe(c)), "<[x -> a] | b | c>");
  check(a.pipe(chord(["x"], b), chord(["y"], c)), "<a | [x -> b] | [y -> c]>");
  check(chain(), "<>");
  check(chain(a), "<a>");
  check(chain(both()), "(x, y)");
  check(chain(both(), a, b), "[x, y -> <a | b>]");
  check(chain(a, both(), b, both(), c), "<a | [x, y -> <b | [x, y -> c]>]>");
  check(chain([a, chain(b, both()), c, d]), "<a | b | [x, y -> <c | d>]>");
  check(chain(group(), chain(both(), a), e), "<[x, y -> <a | e>]>");
  check(chord(group(a, b), c), "[a, b -> c]");
});

test("what hangs on a canvas hangs where Celery hangs it", () => {
  const hung = (canvas) => canvas.link("k").linkError("e").linkError("e");
  check(hung(a), "a+k!e");
  check(hung(chain(a, b)), "<a | b>+k!e");
  check(hung(chain(a, b)).pipe(c), "<a!e | b+k!e | c>");
  check(hung(group(a, b)), "(a+k'!e, b!e)");
  check(hung(chord([a, chord([b], c)], c)), "[a, [b -> c!e] -> c+k!e]");
  assert.throws(() => group().link("k"), /an empty group has no task that a callback could follow/);
});

test("a signature is left as it was", () => {
  const before = JSON.stringify(a);
  a.link(b).option("queue", "q").immutable().partial(1);
  assert.equal(JSON.stringify(a), before);
});

test("immutable is what would get the arguments", () => {
  check(a.immutable(), "a'");
  check(chain(a, b).immutable(), "<a' | b>");
  check(group(a, b).immutable(), "(a', b')");
  check(chord([a], b).immutable(), "[a' -> b]");
  assert.deepEqual(a.args(3).partial(1, null).toJSON().args, [1, null, 3]);
  assert.deepEqual(a.args(3).immutable().partial(1).toJSON().args, [3]);
});

test("what is no signature is refused", () => {
  for (const [map, expected] of [
    ["[]", /no JSON object/],
    ["{}", /it names no task/],
    ['{"task": "t", "subtask_type": "ring"}', /a signature of an unknown kind: "ring"/],
    ['{"task": "t", "args": {}}', /whose args are no array/],
    ['{"task": "celery.chain", "subtask_type": "chain"}', /a chain without tasks/],
    ['{"task": "celery.map", "subtask_type": "xmap", "kwargs": {"task": {"task": "a"}, "it": 1}}', /a xmap over no list/],
  ]) {
    assert.throws(() => Signature.from(map), { name: "TypeError", message: expected });
  }
  assert.throws(() => chain(a).kwargs({}), /only a call of a task has/);
});

test("a signature of somebody else keeps what it has", () => {
  const odd = `{"task":"t","args":[NaN,${"9".repeat(300)}],"kwargs":{"a":"\\ud800"},"options":{"x":-Infinity},"subtask_type":null,"immutable":true,"chord_size":3}`;
  assert.equal(String(signature(odd.length > 0 ? Signature.from(odd) : odd).toJSON().args[1]), "9".repeat(300));
  const frozen = `{"task": "celery.chord", "args": [], "options": {"link": {"task": "k"}}, "subtask_type": "chord", "kwargs": {
    "header": {"task": "celery.group", "kwargs": {"tasks": [{"task": "a"}]}, "subtask_type": "group"}, "body": null}}`;
  assert.equal(draw(Signature.from(frozen)), "[a -> nothing]+k");
});

const fixture = new URL("../../../tests/fixtures/contract/compose.json", import.meta.url);

test("canvases are what Celery composes", { skip: !fs.existsSync(fixture) && "the fixture is in the repository" }, () => {
  const call = (...args) => new Signature("t.a").args(...args);
  const [b, c, d, e, f] = all("t.b", "t.c", "t.d", "t.e", "t.f");
  const made = {
    call: call(1, 2).kwargs({ z: 3 }),
    options: call().options({ queue: "slow", priority: 5, countdown: 1.5, expires: 60, taskId: "abc" }),
    immutable: call(1).immutable(),
    partial: call(2).partial(1),
    link: call().link(b).linkError(c),
    chain: call(1).pipe(b, c),
    chain_group: call(1).pipe(group(b, c), d),
    group: group(call(1), call(2)),
    chord: chord([call(1), call(2)], b),
    chord_chain: chord([call(1), call(2)], b).pipe(c),
    chunks: chunks(call(), [[1, 2], [3, 4], [5, 6]], 2),
    map: xmap(call(), [1, 2]),
    starmap: xstarmap(call(), [[1, 2], [3, 4]]),
    stamp: group(call(1), b.link(c)).stamp("tenant", "x"),
    linked_chain: call().pipe(b).link(c).linkError(d),
    linked_group: group(call(), b).link(c).linkError(d),
    linked_chord: chord([call(), b], c).link(d).linkError(e),
    nested: call().pipe(group(b.pipe(c), group(d, e)), f),
    single: chain(group(call()), b),
  };
  const expected = JSON.parse(fs.readFileSync(fixture, "utf8"));
  for (const name of Object.keys(expected)) assert.deepEqual(JSON.parse(JSON.stringify(made[name])), expected[name], name);
});
