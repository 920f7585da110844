// What a function takes: read from its text, and from what its task declares. Knows nothing about calls.

import { Json } from "./json.js";

/**
 * The parameters of a function. `declared` is nothing, a list of names, or a map of names to types; `kwargs` is the name
 * of the parameter that takes all further keyword arguments.
 */
export function parameters(fn, declared, kwargs, task) {
  const where = task ? `task ${task}` : "a task";
  // The bundler may have renamed what the text names; what the build has read of the source knows types as well.
  const text = fromText(Function.prototype.toString.call(fn));
  const source = fn.taskhostParams;
  const read = source !== undefined && (text === undefined || text.length === source.length) ? source : text;
  const types = new Map((read ?? []).map(({ name, type }) => [name, type]));
  let found = read;
  if (declared !== undefined) {
    const entries = Array.isArray(declared) ? declared.map((name) => [name, undefined]) : Object.entries(declared);
    const plain = entries.map(([name, type]) => [name.replace(/^\.\.\./, "").replace(/\?$/, ""), type]);
    for (const [name, type] of plain) types.set(name, type);
    if (read === undefined || read.some(({ name }) => name === undefined) || Array.isArray(declared)) {
      found = entries.map(([name], index) => ({ ...read?.[index], ...listed(name) }));
    } else {
      const wrong = plain.find(([name]) => !read.some((parameter) => parameter.name === name));
      if (wrong !== undefined) {
        throw new TypeError(`${where}: params names '${wrong[0]}', but the function takes (${read.map(({ name }) => name).join(", ")})`);
      }
    }
  }
  if (found === undefined) throw new TypeError(`${where}: its parameters cannot be read; name them: task({ params: ["x", "y"] }, ..)`);
  const unnamed = found.findIndex(({ name }) => name === undefined);
  if (unnamed !== -1) {
    throw new TypeError(`${where}: parameter ${unnamed + 1} is taken apart and so has no name; name all: task({ params: ["x", "y"] }, ..)`);
  }
  if (kwargs !== undefined && !found.some(({ name }) => name === kwargs)) {
    throw new TypeError(`${where}: kwargs names '${kwargs}', which is no parameter of the function`);
  }
  return new Parameters(found, types, kwargs, where);
}

const listed = (name) => (name.startsWith("...") ? { name: name.slice(3), rest: true } : { name: name.replace(/\?$/, ""), ...(name.endsWith("?") && { optional: true }) });

class Parameters {
  constructor(found, types, kwargs, where) {
    this.positional = [];
    this.slots = []; // how the function is called
    this.rest = false;
    this.kwargs = kwargs;
    for (const { name, rest, optional, fallback } of found) {
      const type = new Type(types.get(name), `${where}: parameter '${name}'`);
      if (name === kwargs) this.slots.push({ kind: "kwargs" });
      else if (rest) {
        this.rest = true;
        this.slots.push({ kind: "rest" });
      } else {
        this.slots.push({ kind: "value", index: this.positional.length });
        this.positional.push({ name, optional: Boolean(optional) || type.optional, fallback, type });
      }
    }
    // An argument is raw only if it is cut out before anything is parsed.
    this.raw = this.positional.some(({ type }) => type.raw);
    this.names = new Map();
    this.positional.forEach(({ name }, index) => {
      this.names.set(name, index);
      // Python's custom for JavaScript's.
      const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      if (!this.names.has(snake)) this.names.set(snake, index);
    });
  }

  index(name) {
    return this.names.get(name);
  }
}

const KINDS = {
  any: () => true,
  json: () => true,
  string: (value) => typeof value === "string",
  number: (value) => typeof value === "number" || typeof value === "bigint",
  integer: (value) => typeof value === "bigint" || Number.isInteger(value),
  boolean: (value) => typeof value === "boolean",
  null: (value) => value === null,
  array: Array.isArray,
  object: (value) => value !== null && typeof value === "object" && !Array.isArray(value),
};

/** What a value has to be: "string", "number?", "string|null", .. */
class Type {
  constructor(text = "any", where) {
    this.text = String(text).replace(/\s/g, "");
    this.optional = this.text.endsWith("?");
    if (this.optional) this.text = this.text.slice(0, -1);
    this.kinds = this.text.split("|");
    for (const kind of this.kinds) {
      if (!(kind in KINDS)) throw new TypeError(`${where}: unknown type '${kind}'; there are ${Object.keys(KINDS).join(", ")}, with | between them and ? behind for optional`);
    }
    this.raw = this.kinds.includes("json");
    this.any = this.raw || this.kinds.includes("any");
  }

  check(value, fn, name) {
    if (this.raw) return value;
    if (value instanceof Json) value = value.parse();
    if (this.any || this.kinds.some((kind) => KINDS[kind](value))) return value;
    throw new TypeError(`${fn}() argument '${name}' must be ${this.kinds.join(" or ")}, not ${describe(value)}`);
  }

  schema() {
    if (this.any) return {};
    return { type: this.kinds.length === 1 ? this.kinds[0] : this.kinds };
  }
}

function describe(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value === "bigint" ? "integer" : typeof value;
}

/** An async function with defaults, as esbuild writes it where there are none: its parameters are further inside. */
const LOWERED = /^(?:function\s*[\w$]*\s*)?\(?\.\.\.[\w$]+\)\s*(?:=>|\{)\s*(?:return\s+)?__async\d*\([\w$]+, \[\.\.\.[\w$]+\], function\*\s*/;

/** The parameters that the text of a function names; nothing if it cannot be told. */
export function fromText(text) {
  const lowered = LOWERED.exec(text.replace(/^\(/, "(").trim());
  if (lowered !== null) text = text.trim().slice(lowered[0].length);
  else text = text.trim().replace(/^async\b\s*(?!\()/, "").replace(/^async\s*\(/, "(");
  const lone = /^([\w$]+)\s*=>/.exec(text);
  if (lone !== null) return [{ name: lone[1] }];
  const start = text.indexOf("(");
  if (start === -1 || text.startsWith("class")) return undefined;
  return split(text, start + 1)?.map(read);
}

function read(text) {
  if (text.startsWith("...")) return /^\.\.\.[\w$]+$/.test(text) ? { name: text.slice(3), rest: true } : { rest: true };
  const found = /^([\p{ID_Start}$_][\p{ID_Continue}$]*)\s*(?:=([^]*))?$/u.exec(text);
  if (found === null) return {};
  const parameter = { name: found[1] };
  if (found[2] !== undefined) {
    parameter.optional = true;
    try {
      parameter.fallback = JSON.parse(found[2]);
    } catch {
      // It is more than a literal.
    }
  }
  return parameter;
}

/** The texts between commas up to the closing bracket. */
function split(text, at) {
  const parts = [];
  let depth = 0;
  let part = "";
  for (; at < text.length; at += 1) {
    const char = text[at];
    if (char === "/" && (text[at + 1] === "*" || text[at + 1] === "/")) {
      const end = text[at + 1] === "*" ? text.indexOf("*/", at) + 1 : text.indexOf("\n", at);
      if (end <= at) return undefined;
      at = end;
      continue;
    }
    if (char === '"' || char === "'" || char === "`") {
      const start = at;
      for (at += 1; at < text.length && text[at] !== char; at += 1) if (text[at] === "\\") at += 1;
      part += text.slice(start, at + 1);
      continue;
    }
    if ("([{".includes(char)) depth += 1;
    if (")]}".includes(char)) {
      if (depth === 0) {
        if (part.trim() !== "") parts.push(part.trim());
        return parts;
      }
      depth -= 1;
    }
    if (char === "," && depth === 0) {
      parts.push(part.trim());
      part = "";
    } else part += char;
  }
  return undefined;
}
