import assert from "node:assert/strict";
import { test } from "node:test";

import { annotate } from "../builder/signatures.mjs";
import { parameters } from "../lib/parameters.js";

/** What is hung on the functions of a source, in short. */
function read(source, isTyped = true) {
  const annotated = annotate(source, isTyped);
  assert.equal(annotated.split("\n").length, source.split("\n").length, "lines stay where they are");
  const found = [...annotated.matchAll(/, \{ taskhostParams: (\[.*?\]) \}\)/g)];
  const short = ({ name, rest, optional, type, fallback }) =>
    `${rest ? "..." : ""}${name}${optional ? "?" : ""}${type ? `: ${type}` : ""}${fallback === undefined ? "" : ` = ${JSON.stringify(fallback)}`}`;
  return found.map(([, json]) => JSON.parse(json).map(short).join(", ")).join("; ");
}

test("names, defaults and types are read from the source", () => {
  for (const [source, expected] of [
    ["task((x: number, y: number) => x + y)", "x: number, y: number"],
    ['export const add = task({ name: "a,b(" }, async (x: number | bigint, y = 3): Promise<number> => x);', 'x: number, y?: number = 3'],
    ['task("t", function named(url: string, opts?: Record<string, number>, ...rest: string[]) {});', "url: string, opts?: object, ...rest"],
    ["task(x => x)", "x"],
    ["task(async x => x)", "x"],
    ['task((mode: "fast" | "slow" = "fast", size: number | null = null) => 1)', 'mode?: string = "fast", size?: number|null = null'],
    ["task((a: Array<{ x: number, y: string }>, b: [number, string], c: readonly string[]) => 1)", "a: array, b: array, c: array"],
    ["task((a: unknown, b: any, c: MyType, d: JsonValue, e: string | MyType) => 1)", "a, b, c, d, e"],
    ["task((raw: Json, f: (x: number, y: number) => void, done = () => 1) => 1)", "raw: json, f, done?"],
    ["task((this: Foo, x: number) => 1)", "x: number"],
    ["task(<T>(x: T, y: boolean) => 1,\n)", "x, y: boolean"],
    ["task((\n  x: number, // the first, of (two)\n  /* a, b */ y: string,\n) => `${x}${y}`)", "x: number, y: string"],
    ["function add(x: number, y = 'a') {}\nexport const t = task({ maxRetries: 1 }, add);", "x: number, y?: string"],
    ["const add = async (x: number) => x;\ntask(add)", "x: number"],
    ["task(imported)", ""],
    ["my.task((x) => x); function task(x) {} // task((y) => y)\nconst s = 'task((z) => z)', r = /task((a) => a)/;", ""],
    ["const s = `a ${b ? `task((x) => x)` : { c: '}' }.c} b`; task((ok: string) => ok)", "ok: string"],
    ["const half = size / 2; task((ok: string) => ok / 2)", "ok: string"],
    ["return /[/)]/.test(x); task((ok) => ok)", "ok"],
    ["task({ name: 'one' }, (x: string) => x); task({ name: 'two' }, (y: number) => y)", "x: string; y: number"],
    ["task((x: number", ""],
  ]) {
    assert.equal(read(source), expected, source);
  }
  assert.equal(read('task((name, greeting = "Hello") => 1)', false), 'name, greeting? = "Hello"', "JavaScript has no types to check");
});

test("what the bundler has renamed keeps its name", () => {
  const fn = Object.assign((url, headers2 = {}) => [url, headers2], { taskhostParams: [{ name: "url", type: "string" }, { name: "headers", optional: true }] });
  const { positional } = parameters(fn, { headers: "object" }, undefined, "t");
  assert.deepEqual(positional.map(({ name, type }) => [name, type.text]), [["url", "string"], ["headers", "object"]]);
  const other = Object.assign((x) => x, { taskhostParams: [{ name: "a" }, { name: "b" }] });
  assert.deepEqual(parameters(other, undefined, undefined, "t").positional.map(({ name }) => name), ["x"], "what does not fit is not believed");
});
