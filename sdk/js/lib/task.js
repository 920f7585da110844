// Declares tasks: a function, its name, its options, and what is known about its parameters. Runs nothing.

import { Signature } from "./canvas.js";
import { Json, elements, members, parse } from "./json.js";
import { parameters } from "./parameters.js";

const registered = [];

/** Tasks in the order in which they were declared. */
export const tasks = () => registered;

/**
 * Makes a task of a function. It can be called as before, and is a task of the plugin:
 * `task(fn)`, `task("tasks.add", fn)`, `task({ name: "tasks.add", maxRetries: 5 }, fn)`.
 */
export function task(options, fn) {
  if (fn === undefined && typeof options === "function") [options, fn] = [{}, options];
  if (typeof options === "string") options = { name: options };
  if (typeof fn !== "function") throw new TypeError("task() takes options and a function: task({ name: \"tasks.add\" }, (x, y) => x + y)");
  if (fn.definition !== undefined) throw new TypeError(`task(): ${fn.taskName} is a task already`);
  const definition = new Definition(fn, options);
  registered.push(definition);
  const callable = function (...args) {
    return fn.apply(this, args);
  };
  Object.defineProperty(callable, "name", { value: fn.name || definition.name || "task" });
  Object.defineProperty(callable, "length", { value: fn.length });
  Object.defineProperty(callable, "definition", { value: definition });
  Object.defineProperty(callable, "taskName", { get: () => definition.named() });
  callable.s = (...args) => new Signature(definition.named()).args(...args);
  callable.si = (...args) => callable.s(...args).immutable();
  return callable;
}

// What is no option of Celery's.
const OWN = ["name", "summary", "params", "kwargs"];

/** A task as it is declared. */
export class Definition {
  constructor(fn, options) {
    this.fn = fn;
    this.name = options.name;
    if (this.name !== undefined && (typeof this.name !== "string" || this.name === "")) {
      throw new TypeError("task(): the name is a text, such as \"tasks.add\"");
    }
    this.summary = options.summary ?? "";
    this.options = Object.entries(options)
      .filter(([name, value]) => !OWN.includes(name) && value !== undefined)
      .map(([name, value]) => [name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`), plain(value)]);
    this.parameters = parameters(fn, options.params, options.kwargs, this.name ?? fn.name);
  }

  named() {
    if (this.name === undefined) {
      throw new TypeError("this task has no name yet: it gets that of its export when the plugin is built, or give it one: task({ name: \"tasks.add\" }, ..)");
    }
    return this.name;
  }

  /** What Python calls the function. */
  get function() {
    return this.name === undefined ? this.fn.name || "task" : this.name.slice(this.name.lastIndexOf(".") + 1);
  }

  schema() {
    const { positional, rest, kwargs } = this.parameters;
    const properties = {};
    for (const parameter of positional) {
      properties[parameter.name] = parameter.type.schema();
      if (parameter.fallback !== undefined) properties[parameter.name].default = parameter.fallback;
    }
    const schema = {
      type: "object",
      properties,
      required: positional.filter((parameter) => !parameter.optional).map((parameter) => parameter.name),
      additionalProperties: kwargs !== undefined,
    };
    if (rest) schema["x-args"] = positional.length;
    return schema;
  }

  /** The arguments of the function, from those of a call; wrong ones are the TypeErrors of Python. */
  bind(args, kwargs) {
    const { positional, rest, kwargs: others, slots, raw } = this.parameters;
    if (args === "[]" && kwargs === "{}" && slots.length === 0) return [];
    const given = raw ? elements(args).map((text) => new Json(text)) : parse(args);
    const named = raw ? members(kwargs) : kwargs === "{}" ? undefined : new Map(Object.entries(parse(kwargs)));
    if (given.length > positional.length && !rest) throw this.tooMany(given.length);
    const values = given.slice(0, positional.length);
    const further = {};
    for (const [name, value] of named ?? []) {
      const index = this.parameters.index(name);
      if (index !== undefined) {
        if (index < given.length) throw new TypeError(`${this.function}() got multiple values for argument '${name}'`);
        values[index] = raw ? new Json(value) : value;
      } else if (others !== undefined) {
        further[name] = raw ? new Json(value).parse() : value;
      } else {
        throw new TypeError(`${this.function}() got an unexpected keyword argument '${name}'`);
      }
    }
    const missing = positional.filter((parameter, index) => !parameter.optional && !(index in values));
    if (missing.length > 0) throw this.missing(missing);
    for (const index in values) values[index] = positional[index].type.check(values[index], this.function, positional[index].name);
    const bound = [];
    for (const slot of slots) {
      if (slot.kind === "kwargs") bound.push(further);
      else if (slot.kind === "rest") bound.push(...given.slice(positional.length).map((value) => (raw ? value.parse() : value)));
      else bound.push(values[slot.index]);
    }
    return bound;
  }

  tooMany(count) {
    const { positional } = this.parameters;
    const least = positional.findIndex((parameter) => parameter.optional);
    const takes = least === -1 ? `${positional.length}` : `from ${least} to ${positional.length}`;
    const plural = takes === "1" ? "" : "s";
    return new TypeError(`${this.function}() takes ${takes} positional argument${plural} but ${count} ${count === 1 ? "was" : "were"} given`);
  }

  missing(parameters) {
    const names = parameters.map((parameter) => `'${parameter.name}'`);
    const last = names.pop();
    const listed = names.length === 0 ? last : `${names.join(", ")}${names.length > 1 ? "," : ""} and ${last}`;
    const plural = parameters.length === 1 ? "" : "s";
    return new TypeError(`${this.function}() missing ${parameters.length} required positional argument${plural}: ${listed}`);
  }
}

/** Error classes stand for their names. */
function plain(value) {
  if (typeof value === "function") return value.name;
  return Array.isArray(value) ? value.map(plain) : value;
}
