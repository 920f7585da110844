// Reads what task functions take from their sources, before the bundler renames parameters and drops types.
//
// Looks at `task(..)` with a function as the last argument, or with the name of one that is declared in the same file.
// What it cannot read stays as it is: the SDK then reads what it can from the bundled function.

const OPENING = "([{";
const CLOSING = ")]}";
/** After these words an expression follows, so a slash begins a regular expression. */
const BEFORE_EXPRESSION = /\b(?:return|typeof|case|in|of|do|else|void|delete|throw|new|await|yield|instanceof)$/;

/** The source with what is known of each task's parameters hung on its function. Lines stay where they are. */
export function annotate(source, isTyped) {
  const insertions = [];
  try {
    for (const { start, end } of calls(source)) {
      const last = split(source, start, end).filter(([from, to]) => source.slice(from, to).trim() !== "").at(-1);
      const parameters = last && functionAt(source, ...last, isTyped);
      if (parameters === undefined) continue;
      const [from, to] = trimmed(source, ...last);
      insertions.push([to, `, { taskhostParams: ${JSON.stringify(parameters)} })`], [from, "Object.assign("]);
    }
  } catch (error) {
    if (!(error instanceof Unreadable)) throw error;
    return source; // the bundler says better what is wrong with it
  }
  insertions.sort(([a], [b]) => b - a);
  for (const [at, text] of insertions) source = source.slice(0, at) + text + source.slice(at);
  return source;
}

class Unreadable extends Error {}

/** Each place where a bracket, a comma or a word stands that is no part of a text, a comment or a regular expression. */
function* tokens(source, at = 0, end = source.length) {
  let before = ""; // the code since the last line, without what is skipped
  const braces = []; // true where a brace closes a part of a template
  while (at < end) {
    const char = source[at];
    const two = source.slice(at, at + 2);
    if (two === "//") at = upTo(source, "\n", at);
    else if (two === "/*") at = upTo(source, "*/", at) + 2;
    else if (char === '"' || char === "'") {
      at = quoted(source, at);
      before = '"';
    } else if (char === "`" || (char === "}" && braces.at(-1) === true)) {
      if (char === "}") braces.pop();
      at = template(source, at + 1);
      if (source[at - 1] === "{") braces.push(true);
      before = source[at - 1] === "{" ? "(" : '"';
    } else if (char === "/" && isRegex(before)) {
      at = regex(source, at);
      before = '"';
    } else if (/[\p{ID_Start}$_]/u.test(char)) {
      const word = /^[\p{ID_Continue}$]+/u.exec(source.slice(at, at + 200))[0];
      yield { at, word, before };
      at += word.length;
      before = `${before.slice(-10)} ${word}`;
    } else {
      if (char === "{") braces.push(false);
      if (char === "}") braces.pop();
      yield { at, char };
      at += 1;
      if (/\S/.test(char)) before = char;
    }
  }
}

function upTo(source, mark, at) {
  const found = source.indexOf(mark, at);
  return found === -1 ? source.length : found;
}

function quoted(source, at) {
  const quote = source[at];
  for (at += 1; source[at] !== quote; at += 1) {
    if (at >= source.length || source[at] === "\n") throw new Unreadable();
    if (source[at] === "\\") at += 1;
  }
  return at + 1;
}

/** Behind the end of a template, or behind the `${` of its next part. */
function template(source, at) {
  for (; source[at] !== "`"; at += 1) {
    if (at >= source.length) throw new Unreadable();
    if (source[at] === "\\") at += 1;
    else if (source[at] === "$" && source[at + 1] === "{") return at + 2;
  }
  return at + 1;
}

const isRegex = (before) => before === "" || /[^\w$)\]}"]$/.test(before) || BEFORE_EXPRESSION.test(before);

function regex(source, at) {
  let inClass = false;
  for (at += 1; inClass || source[at] !== "/"; at += 1) {
    if (at >= source.length || source[at] === "\n") throw new Unreadable();
    if (source[at] === "\\") at += 1;
    else if (source[at] === "[") inClass = true;
    else if (source[at] === "]") inClass = false;
  }
  return at + 1;
}

/** What stands between the brackets of each `task(..)`. */
function* calls(source) {
  for (const { at, word, before } of tokens(source)) {
    if (word !== "task" || /[.#]$/.test(before ?? "") || /\bfunction$/.test(before ?? "")) continue;
    const open = /^\s*\(/.exec(source.slice(at + 4));
    if (open === null) continue;
    const start = at + 4 + open[0].length;
    yield { start, end: closing(source, start) };
  }
}

/** Where the bracket closes that was opened before. */
function closing(source, start) {
  let depth = 0;
  for (const { at, char } of tokens(source, start)) {
    if (char === undefined) continue;
    if (OPENING.includes(char)) depth += 1;
    else if (CLOSING.includes(char) && depth-- === 0) return at;
  }
  throw new Unreadable();
}

/** The ranges between commas. Those of types are in angle brackets. */
function split(source, start, end, isTyped = false) {
  const ranges = [];
  let from = start;
  let depth = 0;
  for (const { at, char } of tokens(source, start, end)) {
    if (char === undefined) continue;
    if (OPENING.includes(char) || (isTyped && char === "<")) depth += 1;
    else if (CLOSING.includes(char) || (isTyped && char === ">" && source[at - 1] !== "=")) depth -= 1;
    else if (char === "," && depth === 0) {
      ranges.push([from, at]);
      from = at + 1;
    }
  }
  ranges.push([from, end]);
  return ranges;
}

function trimmed(source, from, to) {
  const text = source.slice(from, to);
  return [from + (text.length - text.trimStart().length), to - (text.length - text.trimEnd().length)];
}

const HEAD = /^(?:\s|\/\/[^\n]*\n|\/\*[^]*?\*\/)*(?:async\b\s*)?(?:function\b\s*\*?\s*[\w$]*\s*)?(?:<[^()]*?>\s*)?/;

/** The parameters of the function that stands there; nothing if none does. */
function functionAt(source, from, to, isTyped) {
  const text = source.slice(from, to);
  const name = /^\s*([\p{ID_Start}$_][\p{ID_Continue}$]*)\s*$/u.exec(text)?.[1];
  if (name !== undefined) return declared(source, name, isTyped);
  const lone = /^\s*(?:async\s+)?([\p{ID_Start}$_][\p{ID_Continue}$]*)\s*=>/u.exec(text);
  if (lone !== null) return [{ name: lone[1] }];
  const start = from + HEAD.exec(text)[0].length;
  if (source[start] !== "(") return undefined;
  const end = closing(source, start + 1);
  const isFunction = /^(?:\s*async\b)?\s*function\b/.test(text) || /^\s*(?:=>|:)/.test(source.slice(end + 1, to));
  return isFunction ? list(source, start + 1, end, isTyped) : undefined;
}

/** `function name(..)` or `const name = (..) =>` somewhere in the file. */
function declared(source, name, isTyped) {
  const escaped = name.replace(/\$/g, "\\$");
  const found = new RegExp(`\\bfunction\\s*\\*?\\s*${escaped}\\s*(?=[(<])|\\b(?:const|let|var)\\s+${escaped}\\s*=\\s*(?=(?:async\\b\\s*)?(?:function\\b|\\())`).exec(source);
  if (found === null) return undefined;
  const is_plain = found[0].startsWith("function");
  const from = found.index + (is_plain ? 0 : found[0].length);
  return functionAt(source, from, source.length, isTyped);
}

function list(source, start, end, isTyped) {
  const ranges = split(source, start, end, isTyped).map((range) => trimmed(source, ...range));
  const parameters = ranges.filter(([from, to]) => from < to).map(([from, to]) => parameter(source, from, to, isTyped));
  return parameters.filter(({ name }) => name !== "this");
}

function parameter(source, from, to, isTyped) {
  const text = source.slice(from, to).replace(/\/\*[^]*?\*\/|\/\/[^\n]*/g, " ").trim();
  const rest = text.startsWith("...");
  const found = /^(?:\.\.\.)?([\p{ID_Start}$_][\p{ID_Continue}$]*)\s*(\?)?/u.exec(text);
  if (found === null) return rest ? { rest } : {};
  const { type, fallback } = parts(text.slice(found[0].length));
  const made = { name: found[1] };
  if (rest) return { ...made, rest };
  if (found[2] !== undefined || fallback !== undefined) made.optional = true;
  if (isTyped) {
    const kind = type !== undefined ? kindOf(type) : fallback !== undefined ? literal(fallback) : undefined;
    if (kind !== undefined) made.type = kind;
  }
  if (fallback !== undefined) {
    try {
      made.fallback = JSON.parse(fallback);
    } catch {
      // It is more than a literal.
    }
  }
  return made;
}

/** `: type = default` */
function parts(text) {
  let depth = 0;
  for (const { at, char } of tokens(text)) {
    if (char === undefined) continue;
    if (OPENING.includes(char) || char === "<") depth += 1;
    else if (CLOSING.includes(char) || (char === ">" && text[at - 1] !== "=")) depth -= 1;
    else if (char === "=" && depth === 0 && text[at + 1] !== ">") {
      return { type: before(text.slice(0, at)), fallback: text.slice(at + 1).trim() };
    }
  }
  return { type: before(text) };
  function before(text) {
    const type = text.trim().replace(/^:\s*/, "").trim();
    return type === "" ? undefined : type;
  }
}

const PLAIN = { string: "string", number: "number", bigint: "integer", boolean: "boolean", true: "boolean", false: "boolean", null: "null", Json: "json", object: "object", undefined: "" };

/** What the SDK checks for a type of TypeScript; nothing for one that says nothing, or nothing that is known here. */
function kindOf(type) {
  const kinds = [];
  for (const text of members(type)) {
    const kind = kindOfOne(text);
    if (kind === undefined) return undefined;
    if (kind !== "") kinds.push(kind);
  }
  const known = [...new Set(kinds)].filter((kind) => kind !== "integer" || !kinds.includes("number"));
  return known.length === 0 ? undefined : known.join("|");
}

function kindOfOne(text) {
  if (Object.hasOwn(PLAIN, text)) return PLAIN[text];
  if (/^(?:"[^"]*"|'[^']*'|`[^`]*`)$/.test(text)) return "string";
  if (/^-?[\d.]+$/.test(text)) return "number";
  if (/\[\]$/.test(text) || /^(?:readonly\s+)?\[/.test(text) || /^(?:Readonly)?Array</.test(text)) return "array";
  if (/^\{[^]*\}$/.test(text) || /^(?:Partial<|Readonly<)?Record</.test(text)) return "object";
  return undefined;
}

/** The members of a union. */
function members(type) {
  const found = [];
  let depth = 0;
  let from = 0;
  for (const { at, char } of tokens(type)) {
    if (char === undefined) continue;
    if (OPENING.includes(char) || char === "<") depth += 1;
    else if (CLOSING.includes(char) || (char === ">" && type[at - 1] !== "=")) depth -= 1;
    else if (char === "|" && depth === 0) {
      found.push(type.slice(from, at));
      from = at + 1;
    }
  }
  found.push(type.slice(from));
  return found.map((text) => text.trim()).filter((text) => text !== "");
}

function literal(text) {
  if (/^["'`]/.test(text)) return "string";
  if (/^-?[\d.][\d._e+-]*$/.test(text)) return "number";
  if (text === "true" || text === "false") return "boolean";
  return undefined;
}

/** For esbuild: every source of the user's. */
export const signatures = (project, sdk, fs, path) => ({
  name: "signatures",
  setup(build) {
    build.onLoad({ filter: /\.[cm]?[jt]sx?$/ }, ({ path: file }) => {
      if (file.startsWith(`${sdk}${path.sep}`) || file.split(path.sep).includes("node_modules")) return undefined;
      const source = fs.readFileSync(file, "utf8");
      const kind = /\.[cm]?([jt]sx?)$/.exec(file)[1];
      return { contents: annotate(source, kind.startsWith("ts")), loader: kind };
    });
  },
});
