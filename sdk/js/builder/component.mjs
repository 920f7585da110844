// Makes a component of a module: QuickJS with the module loaded, as it is once all of its top level has run.

import fs from "node:fs";
import path from "node:path";

import { Places, stack } from "../lib/traceback.js";
import { BUNDLE } from "./bundle.mjs";
import { Failure } from "./failure.mjs";

// componentize-qjs runs the top level in a host of its own, which has wasi:io and not wasi:http: for its linker the
// streams of the one are not those of the other, and it refuses. So while it works these interfaces have a name that no
// host knows, of the same length, and get their own when it is done. Two versions of an interface that only grows are
// both the host's.
const FOREIGN = ["io", "clocks", "http"];
const VERSION = "0.2.6";

export async function componentize({ module, places, wit, work, entry, qjs }) {
  const witPath = path.join(work, "wit-js");
  rename(wit, witPath);
  const jsPath = path.join(work, BUNDLE);
  fs.writeFileSync(jsPath, module);
  let made;
  try {
    made = await qjs.componentize({ witPath, jsSource: module, jsPath, moduleRoot: work, world: "sdk", optSize: true, sync: true });
  } catch (error) {
    throw new Failure(explain(String(error?.message ?? error), places, entry));
  }
  return named(made.component);
}

/** The WIT files under the names that the build uses. */
function rename(from, to) {
  fs.rmSync(to, { recursive: true, force: true });
  fs.mkdirSync(path.join(to, "deps"), { recursive: true });
  const foreign = new RegExp(`wasi:(${FOREIGN.join("|")})((?:/[a-z-]+)?)@0\\.2\\.0\\b(?!-)`, "g");
  for (const file of ["task.wit", "sdk.wit"]) write(file, fs.readFileSync(path.join(from, file), "utf8"));
  for (const file of fs.readdirSync(path.join(from, "deps"))) write(path.join("deps", file), fs.readFileSync(path.join(from, "deps", file), "utf8"));
  function write(file, text) {
    // The engine has its own way to standard output.
    const lines = text.split("\n").filter((line) => !/^\s*import wasi:cli\/std/.test(line)).join("\n");
    const without = file.endsWith("cli.wit") ? lines.replace(/interface std[^]*?\n}\n/g, "") : lines;
    fs.writeFileSync(path.join(to, file), without.replace(foreign, `wqjs:$1$2@${VERSION}`));
  }
}

function named(component) {
  const bytes = Buffer.from(component);
  const [from, to] = ["wqjs:", "wasi:"].map((text) => Buffer.from(text));
  const whole = new RegExp(`^wqjs:(?:${FOREIGN.join("|")})/[a-z-]+@${VERSION.replaceAll(".", "\\.")}`);
  for (let at = bytes.indexOf(from); at !== -1; at = bytes.indexOf(from, at + 1)) {
    if (whole.test(bytes.toString("latin1", at, at + 80))) to.copy(bytes, at);
  }
  return bytes;
}

const HINTS = {
  process: "it is a thing of Node.js; environment variables are in environment() of taskhost",
  Buffer: "it is a thing of Node.js; use Uint8Array, TextEncoder and TextDecoder",
  require: "use import",
  __dirname: "it is a thing of Node.js",
  Intl: "the engine has none",
  XMLHttpRequest: "use fetch() or request()",
  window: "it is a thing of browsers",
  document: "it is a thing of browsers",
};

/** What went wrong while the top level ran, in terms of the sources. */
function explain(text, places, entry) {
  const said = text.replace(/^(?:Error: |: |Failed to [a-z]+ (?:user )?(?:JavaScript|generated shim) module(?: evaluation)?: )*/i, "");
  const message = said.split(/\n\s*at /)[0].trim();
  const own = /^(?:Error: )?taskhost: ([^]*)$/.exec(message);
  if (own !== null) return `${entry}: ${own[1]}`;
  const frames = stack({ stack: text }, new Places(places)).reverse();
  const at = frames.map(({ name, file, line, text }) => `    at ${name || "<top level>"} (${file}:${line})${text ? `: ${text}` : ""}`);
  const missing = /'?(\w+)'? is not defined/.exec(message)?.[1];
  const hint = HINTS[missing] === undefined ? [] : [`hint: there is no ${missing} in a task: ${HINTS[missing]}`];
  const isAsking = /unknown import|wasm trap|wasm backtrace|by a host, and this is none/.test(text);
  const trap = isAsking
    ? ["hint: the top level of a module runs when the plugin is built; move what asks the host (requests, settings, secrets, the clock) into a task"]
    : [];
  const where = frames[0] === undefined ? entry : `${frames[0].file}:${frames[0].line}`;
  return [`${where}: ${message}`, ...at, ...hint, ...trap].join("\n");
}

