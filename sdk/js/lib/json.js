// JSON as Python writes it, where the language's own parser and writer would be silently wrong: integers beyond
// 2**53 are BigInts, NaN and infinities stay what they are. Knows nothing about tasks.

/** JSON text that is passed on byte for byte: as a parameter (type "json"), as a result, or inside either. */
export class Json {
  #text;

  constructor(text) {
    this.#text = String(text);
  }

  /** The text of a value. */
  static of(value) {
    return new Json(write(value));
  }

  get text() {
    return this.#text;
  }

  parse() {
    return parse(this.#text);
  }

  toString() {
    return this.#text;
  }

  // The native writer cannot take text, so it gives way to the one below.
  toJSON() {
    throw new RawText();
  }
}

class RawText extends Error {}

/** An integer that JSON.parse might round, or a token that it does not know. */
const RISKY = /[0-9]{16}|NaN|Infinity/;

/** Reads JSON. What is no JSON is a SyntaxError. */
export function parse(text) {
  return RISKY.test(text) ? new Reader(text).whole() : JSON.parse(text);
}

/** The texts of the elements of an array. */
export function elements(text) {
  const reader = new Reader(text);
  const found = [];
  reader.sequence("[", "]", () => found.push(reader.skipped()));
  reader.end();
  return found;
}

/** The texts of the members of an object, by name. */
export function members(text) {
  const reader = new Reader(text);
  const found = new Map();
  reader.sequence("{", "}", () => {
    const name = reader.name();
    found.set(name, reader.skipped());
  });
  reader.end();
  return found;
}

const TOKEN = /-?(?:Infinity|(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?)|NaN|true|false|null/y;
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SPACE = /[ \t\r\n]*/y;

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  whole() {
    const value = this.value();
    this.end();
    return value;
  }

  end() {
    this.space();
    if (this.at < this.text.length) this.fail();
  }

  value() {
    switch (this.peek()) {
      case "[": {
        const array = [];
        this.sequence("[", "]", () => array.push(this.value()));
        return array;
      }
      case "{": {
        const object = {};
        this.sequence("{", "}", () => {
          const name = this.name();
          const value = this.value();
          // An assignment to `__proto__` would set something else.
          if (name === "__proto__") Object.defineProperty(object, name, { value, enumerable: true, configurable: true, writable: true });
          else object[name] = value;
        });
        return object;
      }
      case '"':
        return this.string();
      default:
        return this.token();
    }
  }

  /** The text of the value that is next. */
  skipped() {
    this.space();
    const start = this.at;
    this.skip();
    return this.text.slice(start, this.at);
  }

  skip() {
    switch (this.peek()) {
      case "[":
        return this.sequence("[", "]", () => this.skip());
      case "{":
        return this.sequence("{", "}", () => {
          this.name();
          this.skip();
        });
      case '"':
        return void this.match(STRING);
      default:
        return void this.match(TOKEN);
    }
  }

  sequence(open, close, element) {
    this.expect(open);
    if (this.peek() === close) {
      this.at += 1;
      return;
    }
    for (;;) {
      element();
      if (this.peek() === close) {
        this.at += 1;
        return;
      }
      this.expect(",");
    }
  }

  name() {
    if (this.peek() !== '"') this.fail();
    const name = this.string();
    this.expect(":");
    return name;
  }

  string() {
    return JSON.parse(this.match(STRING)[0]);
  }

  token() {
    const found = this.match(TOKEN);
    const text = found[0];
    switch (text) {
      case "true":
        return true;
      case "false":
        return false;
      case "null":
        return null;
    }
    const number = Number(text);
    const isInteger = found[1] === undefined && found[2] === undefined;
    return isInteger && Number.isFinite(number) && !Number.isSafeInteger(number) ? exact(text, number) : number;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) this.fail();
    this.at = pattern.lastIndex;
    return found;
  }

  space() {
    SPACE.lastIndex = this.at;
    SPACE.exec(this.text);
    this.at = SPACE.lastIndex;
  }

  peek() {
    this.space();
    return this.text[this.at];
  }

  expect(char) {
    if (this.peek() !== char) this.fail();
    this.at += 1;
  }

  fail() {
    throw new SyntaxError(`not JSON: unexpected ${JSON.stringify(this.text[this.at] ?? "end")} at position ${this.at}`);
  }
}

/** 2**53 itself is exact as a number; of those beyond, a BigInt is. */
function exact(text, number) {
  return Math.abs(number) === 2 ** 53 && BigInt(text) === BigInt(number) ? number : BigInt(text);
}

// Numbers that are none in JSON are null to the native writer, and so are holes; maps and sets are empty objects
// to it, and bytes are objects with numbers for names.
const SUSPICIOUS = ["null", "{}", '{"0":'];

/** Writes JSON. What JSON cannot hold is a TypeError. */
export function write(value) {
  if (value === undefined || value === null) return "null";
  if (value instanceof Json) return value.text;
  let text;
  try {
    text = JSON.stringify(value);
  } catch (error) {
    if (!(error instanceof RawText) && !(error instanceof TypeError)) throw error;
  }
  if (text !== undefined && !SUSPICIOUS.some((part) => text.includes(part))) return text;
  const parts = [];
  writeTo(parts, value, "", new Set());
  return parts.join("");
}

function writeTo(parts, value, key, open) {
  if (value instanceof Json) return void parts.push(value.text);
  if (value !== null && (typeof value === "object" || typeof value === "bigint") && typeof value.toJSON === "function") {
    value = value.toJSON(key);
  }
  switch (typeof value) {
    case "string":
    case "boolean":
      return void parts.push(JSON.stringify(value));
    case "number":
      return void parts.push(Number.isFinite(value) ? JSON.stringify(value) : String(value));
    case "bigint":
      return void parts.push(String(value));
    case "undefined":
      return void parts.push("null");
    case "object":
      break;
    default:
      throw new TypeError(`a ${typeof value} is not JSON serializable`);
  }
  if (value === null) return void parts.push("null");
  if (value instanceof Json) return void parts.push(value.text);
  if (value instanceof Number || value instanceof String || value instanceof Boolean) {
    return writeTo(parts, value.valueOf(), key, open);
  }
  if (open.has(value)) throw new TypeError("a circular structure is not JSON serializable");
  open.add(value);
  if (Array.isArray(value) || value instanceof Set || (ArrayBuffer.isView(value) && !(value instanceof DataView))) {
    let separator = "[";
    for (const element of value) {
      parts.push(separator);
      writeTo(parts, element, "", open);
      separator = ",";
    }
    parts.push(separator === "[" ? "[]" : "]");
  } else {
    const entries = value instanceof Map ? value : Object.entries(value);
    let separator = "{";
    for (const [name, member] of entries) {
      if (member === undefined) continue; // as JSON.stringify
      parts.push(separator, JSON.stringify(String(name)), ":");
      writeTo(parts, member, name, open);
      separator = ",";
    }
    parts.push(separator === "{" ? "{}" : "}");
  }
  open.delete(value);
}
