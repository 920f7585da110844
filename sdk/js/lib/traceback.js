// Writes an error as Python would: the outermost call first, causes before what they caused, files and lines of the
// user's sources.

// "at deeper (/bundle.js:12:3)", "at /bundle.js:12:3"
const FRAME = /^\s*at (?:(.*?) \()?(.*?):(\d+):(\d+)\)?$/;
const CAUSES_MAX = 20;

/** The name that a client gets for an error. */
export function className(error) {
  const made = error.constructor?.name;
  const named = error.name;
  // A class that extends Error mostly leaves the name as it was.
  const inherits = !Object.hasOwn(error, "name") && !Object.hasOwn(error.constructor?.prototype ?? {}, "name");
  if (typeof named !== "string" || named === "" || (inherits && made)) return made || "Error";
  return named;
}

/** The traceback of an error. `places` knows where the lines of the bundle come from; `task` names what has no name. */
export function traceback(error, places, task) {
  const parts = [];
  let next = error;
  for (let count = 0; next !== undefined && next !== null && count < CAUSES_MAX; count += 1) {
    if (typeof next.traceback === "string") parts.unshift(next.traceback.trimEnd());
    else parts.unshift(one(next, places, task));
    next = next instanceof Error ? next.cause : undefined;
  }
  return `${parts.join("\n\nThe above exception was the direct cause of the following exception:\n\n")}\n`.toWellFormed();
}

function one(error, places, task) {
  if (!(error instanceof Error)) return show(error);
  const lines = [];
  const frames = stack(error, places);
  // Classes in whose constructors it was made are not where it was made.
  while (frames.length > 1 && isClass(error, frames.at(-1).name)) frames.pop();
  frames.forEach(({ name, file, line, text }, index) => {
    const called = name === "" || name === "<anonymous>" ? (index === 0 ? task : "<anonymous>") : name;
    lines.push(`  File "${file}", line ${line}, in ${called}`);
    if (text) lines.push(`    ${text}`);
  });
  const module = typeof error.module === "string" && error.module !== "builtins" ? `${error.module}.` : "";
  const last = `${module}${className(error)}${error.message ? `: ${error.message}` : ""}`;
  return ["Traceback (most recent call last):", ...lines, last].join("\n");
}

function isClass(error, name) {
  for (let type = error.constructor; typeof type === "function" && type !== Error; type = Object.getPrototypeOf(type)) if (type.name === name) return true;
  return false;
}

const show = (value) => {
  try {
    return String(value);
  } catch {
    return typeof value;
  }
};

/** Where an error was made, the outermost call first. */
export function stack(error, places) {
  const frames = [];
  for (const text of String(error.stack ?? "").split("\n")) {
    const found = FRAME.exec(text);
    if (found === null) continue;
    const [, name = "", file, line, column] = found;
    const frame = { name: name.replace(/^(?:async |new )/, ""), file, line: Number(line) };
    const place = places === undefined ? frame : places.find(file, Number(line), Number(column));
    if (place !== undefined) frames.unshift({ ...frame, ...place });
  }
  return frames;
}

/** Where the lines of the bundle come from. */
export class Places {
  #lines;

  /** `map` is what the build writes: names and texts of the sources, and for each line its segments. */
  constructor(map) {
    this.map = map;
  }

  /** Nothing for what is no source of the user. */
  find(file, line, column) {
    if (!file.endsWith(this.map.bundle)) return undefined;
    this.#lines ??= this.map.lines.split(";");
    let found;
    for (const segment of (this.#lines[line - 1] ?? "").split(" ")) {
      if (segment === "") continue;
      const [start, source, original] = segment.split(".").map((number) => parseInt(number, 36));
      if (start > column - 1 && found !== undefined) break;
      found = [source, original];
    }
    if (found === undefined) return undefined;
    const source = this.map.sources[found[0]];
    if (source.name === "") return undefined;
    return { file: source.name, line: found[1] + 1, text: source.text?.split("\n")[found[1]]?.trim() };
  }
}
