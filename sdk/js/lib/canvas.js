// Calls of tasks, and what is composed of them by the rules of Celery's operators (celery/canvas.py `_fold_chain` and
// the `__or__` of each class). Sends nothing, and works out no ids: the host freezes what it publishes.

import { Json, parse, write } from "./json.js";

const NAMES = {
  chain: ["celery.chain", "chain"],
  group: ["celery.group", "group"],
  chord: ["celery.chord", "chord"],
  chunks: ["celery.chunks", "chunks"],
  map: ["celery.map", "xmap"],
  starmap: ["celery.starmap", "xstarmap"],
};
const STAMPED = "stamped_headers";

/** A call of a task, or a canvas of several. Every method gives a new one and leaves this as it is. */
export class Signature {
  constructor(task) {
    const name = typeof task === "string" ? task : task?.taskName;
    if (typeof name !== "string" || name === "") throw new TypeError("a signature takes the name of a task, or a task");
    this.task = name;
    this.kind = "task";
    this._args = [];
    this._kwargs = {};
    this._tasks = []; // steps, members, or a chord's header
    this._body = null;
    this._over = null; // what chunks, map and starmap repeat: { task, it, n }
    this._options = new Map();
    this._links = [];
    this._errbacks = [];
    this._immutable = false;
    this._others = {};
  }

  /** The steps of a chain, the members of a group, or those of a chord's header. */
  get tasks() {
    return [...this._tasks];
  }

  /** What a chord calls with the results of its header. */
  get body() {
    return this._body;
  }

  /** Positional arguments. */
  args(...args) {
    return this._with((copy) => (copy._args = args));
  }

  /** Keyword arguments of a task. */
  kwargs(kwargs) {
    if (this.kind !== "task") throw new TypeError(`a ${this.kind} has no keyword arguments, only a call of a task has`);
    return this._with((copy) => (copy._kwargs = { ...kwargs }));
  }

  /** An option under Celery's name, as `apply_async` takes it: `queue`, `priority`, `expires`, `task_id`, .. */
  option(name, value) {
    return this._with((copy) => {
      if (name === "link") copy._links = attached(value);
      else if (name === "link_error") copy._errbacks = attached(value);
      else copy._options.set(name, value);
    });
  }

  /** Several options at once, in camelCase or as Celery writes them. */
  options(options) {
    const snake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return Object.entries(options).reduce((copy, [name, value]) => copy.option(snake(name), value), this);
  }

  /** To be run not before so many seconds have passed. */
  countdown(seconds) {
    return this.option("countdown", seconds);
  }

  /** What it is called with is no argument of it: Celery's `si`. */
  immutable() {
    return this._with(makeImmutable);
  }

  /** Positional arguments before those that it has, unless it is immutable: Celery's `clone(args)`. */
  partial(...args) {
    return this._immutable ? this : this._with((copy) => (copy._args = [...args, ...copy._args]));
  }

  /** To be called with the result of this one. */
  link(callback) {
    return this._with((copy) => addLink(copy, signature(callback)));
  }

  /** To be called with the id of this one if it fails. */
  linkError(errback) {
    return this._with((copy) => addErrback(copy, signature(errback)));
  }

  /** Marks every task in it and all that hang on them, by which clients can revoke them. */
  stamp(name, value) {
    return this._with((copy) => addStamp(copy, name, value));
  }

  /** The chain of this and what follows: Python's `a | b | c`. */
  pipe(...followers) {
    return followers.reduce((left, right) => or(left, signature(right)), this);
  }

  /** The steps of a chain or the members of a group; anything else is one by itself. */
  intoTasks() {
    return this.kind === "chain" || this.kind === "group" ? [...this._tasks] : [this];
  }

  /** Celery's map. */
  toJSON() {
    const options = Object.fromEntries(this._options);
    if (this._links.length > 0) options.link = this._links.map((link) => link.toJSON());
    if (this._errbacks.length > 0) options.link_error = this._errbacks.map((errback) => errback.toJSON());
    return {
      task: this.task,
      args: this._args,
      kwargs: this._parts(),
      options,
      subtask_type: NAMES[this.kind]?.[1] ?? null,
      immutable: this._immutable,
      ...this._others,
    };
  }

  _parts() {
    const all = (tasks) => tasks.map((task) => task.toJSON());
    switch (this.kind) {
      case "task":
        return this._kwargs;
      case "chain":
      case "group":
        return { tasks: all(this._tasks) };
      case "chord":
        return { header: all(this._tasks), body: this._body?.toJSON() ?? null, ...this._kwargs };
      default: {
        const { task, it, n } = this._over;
        return n === undefined ? { task: task.toJSON(), it } : { task: task.toJSON(), it, n };
      }
    }
  }

  /** Reads Celery's map: an object, or its text. What is none is a TypeError. */
  static from(map) {
    if (map instanceof Signature) return map;
    if (map instanceof Json) map = map.parse();
    if (typeof map === "string") map = parse(map);
    if (map === null || typeof map !== "object" || Array.isArray(map)) throw new TypeError("not a signature: no JSON object");
    const { task, args = [], kwargs = {}, options = {}, subtask_type = null, immutable = false, ...others } = map;
    if (typeof task !== "string" || task === "") throw new TypeError("not a signature: it names no task");
    if (!Array.isArray(args)) throw new TypeError("a signature whose args are no array");
    const kind = subtask_type === null ? "task" : Object.keys(NAMES).find((kind) => NAMES[kind][1] === subtask_type);
    if (kind === undefined) throw new TypeError(`a signature of an unknown kind: ${write(subtask_type)}`);
    const read = new Signature(task);
    read.kind = kind;
    read._args = args;
    const part = (name) => {
      if (kwargs?.[name] === undefined) throw new TypeError(`a ${subtask_type} without ${name}`);
      return kwargs[name];
    };
    const list = (value) => {
      if (!Array.isArray(value)) throw new TypeError("what should be a list of signatures is no array");
      return value.map((map) => Signature.from(map));
    };
    switch (kind) {
      case "task":
        read._kwargs = kwargs;
        break;
      case "chain":
      case "group":
        read._tasks = list(part("tasks"));
        break;
      case "chord": {
        const { header: _, body = null, ...more } = kwargs;
        const header = part("header");
        // What a client has frozen has a group there.
        read._tasks = Array.isArray(header) ? list(header) : Signature.from(header).intoTasks();
        read._body = body === null ? null : Signature.from(body);
        read._kwargs = more;
        break;
      }
      default: {
        if (!Array.isArray(part("it"))) throw new TypeError(`a ${subtask_type} over no list`);
        read._over = { task: Signature.from(part("task")), it: kwargs.it };
        if (kind === "chunks") read._over.n = part("n");
      }
    }
    for (const [name, value] of Object.entries(options ?? {})) {
      if (name === "link") read._links = attached(value);
      else if (name === "link_error") read._errbacks = attached(value);
      else read._options.set(name, value);
    }
    read._immutable = immutable === true;
    read._others = others;
    return read;
  }

  _with(change) {
    const copy = this._copy();
    change(copy);
    return copy;
  }

  /** Values are never changed in place, parts are. */
  _copy() {
    const copy = Object.create(Signature.prototype);
    Object.assign(copy, this);
    copy._tasks = this._tasks.map((task) => task._copy());
    copy._body = this._body?._copy() ?? null;
    copy._options = new Map(this._options);
    copy._links = this._links.map((link) => link._copy());
    copy._errbacks = this._errbacks.map((errback) => errback._copy());
    return copy;
  }
}

/** Tasks one after the other, each called with the result of the one before. */
export function chain(...tasks) {
  const rest = list(tasks);
  const steps = [];
  while (rest.length > 0) {
    const other = append(steps, rest.shift());
    if (other !== null) return rest.reduce(or, other);
  }
  return composed("chain", steps);
}

/** Tasks beside each other. */
export function group(...tasks) {
  return composed("group", list(tasks));
}

/** Tasks beside each other, and one that is called with the list of all of their results. */
export function chord(header, body) {
  const made = composed("chord", header instanceof Signature ? header.intoTasks() : list([header]));
  made._body = signature(body);
  made._kwargs = { kwargs: {} };
  return made;
}

/** Calls of one task, each with its list of arguments, so many of them to a message. */
export function chunks(task, it, n) {
  return over("chunks", task, it, n);
}

/** Calls of one task in one message, each with one argument; it returns the list of their results. */
export function xmap(task, it) {
  return over("map", task, it);
}

/** Calls of one task in one message, each with its list of arguments; it returns the list of their results. */
export function xstarmap(task, it) {
  return over("starmap", task, it);
}

function over(kind, task, it, n) {
  const made = composed(kind, []);
  made._over = { task: signature(task), it: [...it], n };
  made._immutable = true;
  return made;
}

function composed(kind, tasks) {
  const made = new Signature(NAMES[kind][0]);
  made.kind = kind;
  made._tasks = tasks;
  return made;
}

/** A signature from one, from a task, or from Celery's map. */
export function signature(value) {
  if (value instanceof Signature) return value;
  if (typeof value === "string" || typeof value === "function") return new Signature(value);
  return Signature.from(value);
}

function list(tasks) {
  const is_list = tasks.length === 1 && typeof tasks[0] !== "string" && typeof tasks[0]?.[Symbol.iterator] === "function";
  return Array.from(is_list ? tasks[0] : tasks, signature);
}

function attached(value) {
  if (value === null || value === undefined) return [];
  return (Array.isArray(value) ? value : [value]).map(signature);
}

function or(left, right) {
  if (isEmptyGroup(right)) return left;
  if (left.kind === "chain") {
    const steps = unchain(left);
    return append(steps, right) ?? composed("chain", steps);
  }
  if (left.kind === "group") return chord(left._tasks, right);
  if (left.kind === "chord" && right.kind === "group" && right._tasks.length === 1) return intoBody(left, right._tasks[0]);
  if (left.kind === "chord" && right.kind !== "group" && right.kind !== "chain") return intoBody(left, right);
  if (right.kind === "chain") return composed("chain", [left, ...unchain(right)]);
  return composed("chain", [left, unroll(right)]);
}

/** Adds to the steps of a chain; gives what is no chain any more, and has taken the steps. */
function append(steps, other) {
  if (isEmptyGroup(other)) return null;
  if (other.kind === "chain") {
    const rest = unchain(other);
    while (rest.length > 0) {
      const noChain = append(steps, rest.shift());
      if (noChain !== null) return rest.reduce(or, noChain);
    }
    return null;
  }
  if (other.kind === "group") {
    if (other._tasks.length === 1) return append(steps, unroll(other));
    if (steps.length === 0) return other;
    const last = steps.pop();
    if (last.kind === "chord") steps.push(intoBody(last, other));
    else steps.push(last, other);
    return null;
  }
  const last = steps.pop();
  if (last?.kind === "group") steps.push(chord(last._tasks, other));
  else if (last?.kind === "chord" && other.kind !== "chord") steps.push(intoBody(last, other));
  else if (last === undefined) steps.push(other);
  else steps.push(last, other);
  return null;
}

/** The steps of a chain, with what hangs on the chain hung on them. */
function unchain(whole) {
  const { _tasks: steps, _links: links, _errbacks: errbacks } = whole._copy();
  if (steps.length > 0) for (const link of links) addLink(steps.at(-1), link);
  for (const step of steps) for (const errback of errbacks) addErrback(step, errback);
  return steps;
}

const unroll = (other) => (other.kind === "group" && other._tasks.length === 1 ? other._tasks[0] : other);
const isEmptyGroup = (other) => other.kind === "group" && other._tasks.length === 0;

/** What follows a chord follows its body. */
function intoBody(whole, other) {
  return whole._with((copy) => (copy._body = copy._body === null ? other : or(copy._body, other)));
}

function addLink(to, callback) {
  if (to.kind === "group") {
    if (to._tasks.length === 0) throw new TypeError("an empty group has no task that a callback could follow");
    return addLink(to._tasks[0], callback.immutable());
  }
  if (to.kind === "chord") {
    if (to._body === null) throw new TypeError("a chord without a body has nothing to follow");
    return addLink(to._body, callback);
  }
  attach(to._links, callback);
}

function addErrback(to, errback) {
  if (to.kind === "group") return to._tasks.forEach((member) => addErrback(member, errback));
  if (to.kind === "chord") {
    to._tasks.filter((task) => task.kind === "chord").forEach((task) => addErrback(task, errback));
    if (to._body !== null) addErrback(to._body, errback);
    return;
  }
  attach(to._errbacks, errback);
}

/** As in Celery, one that is there already is not called twice. */
function attach(all, other) {
  const text = write(other);
  if (!all.some((known) => write(known) === text)) all.push(other);
}

function makeImmutable(to) {
  if (to.kind === "group" || to.kind === "chord") to._tasks.forEach(makeImmutable);
  // Celery marks the chain, and forgets that when it sends it.
  else if (to.kind === "chain") to._tasks.slice(0, 1).forEach(makeImmutable);
  else to._immutable = true;
}

function addStamp(to, name, value) {
  for (const other of [...to._links, ...to._errbacks]) addStamp(other, name, value);
  if (to.kind === "chain" || to.kind === "group" || to.kind === "chord") {
    to._tasks.forEach((task) => addStamp(task, name, value));
    if (to._body !== null) addStamp(to._body, name, value);
    return;
  }
  const names = to._options.get(STAMPED) ?? [];
  to._options.set(STAMPED, names.includes(name) ? names : [...names, name]);
  to._options.set(name, value);
}
