// What JavaScript programs expect of any runtime and QuickJS does not have: console, timers, promises that run, text
// encoding, URLs, random numbers that differ from call to call. Put in place before a user's module is evaluated.

import monotonic from "wqjs:clocks/monotonic-clock@0.2.6";
import poll from "wqjs:io/poll@0.2.6";
import random from "wasi:random/random@0.2.0";

import { TextDecoder, TextEncoder } from "./encoding.js";
import { fetch, Headers, Request, Response } from "./fetch.js";
import { AbortController, AbortSignal } from "./abort.js";
import { host } from "./host.js";
import { show } from "./log.js";
import * as loop from "./loop.js";
import { URL, URLSearchParams } from "./url.js";

let started = false;
let origin = 0;
const early = []; // what is printed while the component is built
const EARLY_MAX = 100;

loop.setClock({
  now: () => monotonic.now(),
  subscribe: (nanoseconds) => monotonic.subscribeDuration(Math.ceil(nanoseconds)),
  poll: (pollables) => poll.poll(pollables),
});

/** A call begins. */
export function begin() {
  started = true;
  loop.reset();
  origin = monotonic.now();
  seed = undefined;
  for (const [level, text] of early.splice(0)) host().log(level, "", text);
}

const print = (level) => (...values) => {
  const text = values.map(show).join(" ").toWellFormed();
  if (started) host().log(level, "", text);
  else if (early.length < EARLY_MAX) early.push([level, text]);
};

const counts = new Map();
const console = {
  log: print("info"),
  info: print("info"),
  debug: print("debug"),
  trace: print("debug"),
  warn: print("warn"),
  error: print("error"),
  dir: (value) => console.log(value),
  table: (value) => console.log(value),
  group: (...values) => console.log(...values),
  groupEnd() {},
  assert: (holds, ...values) => void (holds || console.error("Assertion failed:", ...values)),
  count(label = "default") {
    counts.set(label, (counts.get(label) ?? 0) + 1);
    console.log(`${label}: ${counts.get(label)}`);
  },
  time: (label = "default") => void counts.set(`time ${label}`, performance.now()),
  timeEnd(label = "default") {
    console.log(`${label}: ${(performance.now() - (counts.get(`time ${label}`) ?? 0)).toFixed(3)}ms`);
  },
};

const performance = {
  now: () => (monotonic.now() - origin) / 1e6,
  get timeOrigin() {
    return Date.now() - performance.now();
  },
  mark() {},
  measure() {},
};

// The engine's own generator was seeded when the component was built: every call would draw the same numbers.
let seed;
function drawn() {
  if (!started) throw new Error("Math.random() and crypto are there once a task runs, not while the module is loaded: every call would draw the same");
  // xorshift128, four words of 32 bits
  seed ??= new Uint32Array(random.getRandomBytes(16).slice().buffer);
  let mixed = seed[3];
  const first = seed[0];
  seed[3] = seed[2];
  seed[2] = seed[1];
  seed[1] = first;
  mixed ^= mixed << 11;
  mixed ^= mixed >>> 8;
  seed[0] = mixed ^ first ^ (first >>> 19);
  return seed[0];
}

const crypto = {
  getRandomValues(array) {
    if (array.byteLength > 65536) throw new RangeError("getRandomValues() fills 65536 bytes at most");
    if (!started) drawn();
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(random.getRandomBytes(array.byteLength));
    return array;
  },
  randomUUID() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const text = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return [text.slice(0, 8), text.slice(8, 12), text.slice(12, 16), text.slice(16, 20), text.slice(20)].join("-");
  },
};

function structuredClone(value, seen = new Map()) {
  if (typeof value === "function" || typeof value === "symbol") throw new TypeError(`a ${typeof value} cannot be cloned`);
  if (value === null || typeof value !== "object") return value;
  if (seen.has(value)) return seen.get(value);
  if (value instanceof Date) return new Date(value);
  if (value instanceof RegExp) return new RegExp(value.source, value.flags);
  if (ArrayBuffer.isView(value)) return value.slice();
  if (value instanceof ArrayBuffer) return value.slice(0);
  const copy = Array.isArray(value) ? [] : value instanceof Map ? new Map() : value instanceof Set ? new Set() : {};
  seen.set(value, copy);
  if (value instanceof Map) for (const [key, each] of value) copy.set(structuredClone(key, seen), structuredClone(each, seen));
  else if (value instanceof Set) for (const each of value) copy.add(structuredClone(each, seen));
  else for (const [key, each] of Object.entries(value)) copy[key] = structuredClone(each, seen);
  return copy;
}

Math.random = () => ((drawn() >>> 5) * 2 ** 26 + (drawn() >>> 6)) / 2 ** 53;
Error.stackTraceLimit = 50;
// It is made of native promises, which nothing would ever settle.
delete Array.fromAsync;
Object.assign(globalThis, {
  AbortController,
  AbortSignal,
  Headers,
  Promise: loop.Promise,
  Request,
  Response,
  TextDecoder,
  TextEncoder,
  URL,
  URLSearchParams,
  clearImmediate: loop.clearTimeout,
  clearInterval: loop.clearTimeout,
  clearTimeout: loop.clearTimeout,
  console,
  crypto,
  fetch,
  queueMicrotask: loop.queueMicrotask,
  self: globalThis,
  setImmediate: loop.setImmediate,
  setInterval: loop.setInterval,
  setTimeout: loop.setTimeout,
  structuredClone: (value) => structuredClone(value),
});
Object.defineProperty(globalThis, "performance", { value: performance, writable: true, configurable: true });
