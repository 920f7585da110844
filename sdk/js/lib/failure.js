// What the host is told of a task that gave no result.

import { Ignore, Reject, Replace, Retry, TaskError } from "./errors.js";
import { signature } from "./canvas.js";
import { write } from "./json.js";
import { className, traceback } from "./traceback.js";

// Classes that Python has as well, and means the same by.
const SHARED = ["TypeError", "SyntaxError"];

/** WIT's variant `failure`. */
export function failure(thrown, places, task) {
  try {
    if (thrown instanceof Retry) return { tag: "retry", val: retry(thrown, places, task) };
    if (thrown instanceof Reject) return { tag: "reject", val: thrown.requeue };
    if (thrown instanceof Ignore) return { tag: "ignore" };
    if (thrown instanceof Replace) return { tag: "replace", val: write(signature(thrown.signature)) };
  } catch (wrong) {
    // Arguments that are no JSON, a signature that is none.
    thrown = wrong;
  }
  return { tag: "failed", val: raised(thrown, places, task) };
}

failure.unknown = (name) => new TaskError("NotRegistered", name, { module: "celery.exceptions" });

function retry({ countdown, eta, maxRetries, args, kwargs, cause }, places, task) {
  let delay = { tag: "default" };
  if (eta !== undefined) delay = { tag: "eta", val: String(eta) };
  if (countdown !== undefined) delay = { tag: "countdown", val: countdown };
  return {
    cause: cause === undefined ? null : raised(cause, places, task),
    delay,
    maxRetries: maxRetries ?? null,
    args: args === undefined ? null : write(args),
    kwargs: kwargs === undefined ? null : write(kwargs),
  };
}

/** WIT's record `error`. */
export function raised(error, places, task) {
  if (!(error instanceof Error)) error = new Error(typeof error === "string" ? error : `thrown: ${shown(error)}`);
  let type = className(error);
  let module = typeof error.module === "string" ? error.module : SHARED.includes(type) ? "builtins" : null;
  if (type === "InternalError" && error.message === "out of memory") [type, module] = ["MemoryError", "builtins"];
  return {
    excType: type.toWellFormed(),
    excModule: module,
    arguments: args(error),
    traceback: traceback(error, places, task),
  };
}

function args(error) {
  const message = error.message ? [error.message] : [];
  if (error.arguments === undefined) return write(message);
  try {
    return write(Array.isArray(error.arguments) ? error.arguments : [error.arguments]);
  } catch {
    return write(message);
  }
}

function shown(value) {
  try {
    return write(value);
  } catch {
    return typeof value;
  }
}
