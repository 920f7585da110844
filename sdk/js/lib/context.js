// What a task may know about the call it serves, and what it can say and ask meanwhile.

import { asking, publishing, storing, telling } from "./errors.js";
import { TaskError } from "./errors.js";
import { signature } from "./canvas.js";
import { host } from "./host.js";
import { parse, write } from "./json.js";
import { AsyncResult, TaskResult } from "./results.js";

/** The call that a task serves. */
export class Context {
  #request;

  constructor({ id = "", task = "", retries = 0, request } = {}) {
    this.id = id;
    this.task = task;
    this.retries = retries;
    this.#request = request;
  }

  /** All facts about this execution under Celery's names. Fetched when first asked for, and kept. */
  get request() {
    this.#request ??= parse(host().request());
    return this.#request;
  }

  /** True once the task should come to an end. */
  cancelled() {
    return host().cancelled();
  }

  /** Seconds until the hard time limit. */
  remaining() {
    return host().remainingMs() / 1000;
  }

  /** Celery's `update_state`. */
  updateState(state, meta = {}) {
    const text = write(meta);
    storing(() => host().updateState(state, text));
  }

  /** The state PROGRESS with `current` and `total`. Whether it could be stored is told by `updateState`. */
  progress(current, total) {
    try {
      host().updateState("PROGRESS", write({ current, total }));
    } catch (error) {
      if (error?.payload === undefined) throw error;
    }
  }

  /** Tells monitors something about this task: Celery's `send_event`. */
  sendEvent(kind, fields = {}) {
    const text = write(fields);
    telling(() => host().sendEvent(kind, text));
  }

  /** Calls another task, or what a canvas says, once this one has succeeded or is replaced; gives its id. */
  publish(call) {
    const text = written(call);
    return publishing(() => host().send(text));
  }

  /** Calls another task now, whatever this one comes to. */
  publishNow(call) {
    const text = written(call);
    return publishing(() => host().immediately(text));
  }

  /** As `publish`, and tells where all of the results will be. */
  apply(call) {
    const text = written(call);
    return AsyncResult.read(publishing(() => host().apply(text, "[]", "{}", false)));
  }

  /** As `publishNow`, and tells where all of the results will be. */
  applyNow(call) {
    const text = written(call);
    return AsyncResult.read(publishing(() => host().apply(text, "[]", "{}", true)));
  }

  /** Adds to the header of the chord that this task is in. */
  addToChord(call) {
    const text = written(call);
    if ((this.request.chord ?? null) === null) throw new TaskError("ValueError", "Current task is not member of any chord");
    return AsyncResult.read(publishing(() => host().addToChord(text, false)));
  }

  /** What is known about a task that this one called. */
  result(id) {
    return new TaskResult(asking(() => host().result(idOf(id))));
  }

  /** Waits up to so many seconds until a task is done that was called with `publishNow`. */
  wait(id, timeout) {
    return new TaskResult(asking(() => host().wait(idOf(id), Math.max(0, Math.ceil(timeout * 1000)))));
  }

  /** Waits for all members of a group, in order; of a task that is itself. The time is for all together. */
  join(result, timeout) {
    const end = performance.now() + timeout * 1000;
    const open = [result];
    const joined = [];
    while (open.length > 0) {
      const next = open.pop();
      const children = next.children;
      if (children === null) joined.push(this.wait(next.id, Math.max(0, end - performance.now()) / 1000));
      else open.push(...children.reverse());
    }
    return joined;
  }
}

const written = (call) => write(signature(call));
const idOf = (id) => (typeof id === "string" ? id : id.id);

let current;

/** The call that is served. */
export function context() {
  if (current === undefined) {
    throw new Error("context() is for a task that runs; a test gives it one: withContext(new Context({ retries: 1 }), () => ..)");
  }
  return current;
}

/** Runs a function as if it were the task of this context. */
export function withContext(context, run) {
  const before = current;
  current = context;
  const restore = () => (current = before);
  let result;
  try {
    result = run();
  } catch (error) {
    restore();
    throw error;
  }
  if (typeof result?.then === "function") {
    return result.then(
      (value) => (restore(), value),
      (error) => {
        restore();
        throw error;
      },
    );
  }
  restore();
  return result;
}

/** For the component: one call after the other. */
export const serve = (context) => void (current = context);
