// How a task ends other than with a result: errors, and the four that are none. Sends nothing to anybody.

import { Json } from "./json.js";

/** An error whose class, module and arguments a Python client gets as they are given here. */
export class TaskError extends Error {
  constructor(type, message = "", { module = "builtins", arguments: args, traceback, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.type = type;
    this.module = module;
    this.arguments = args;
    this.traceback = traceback;
  }

  get name() {
    return this.type;
  }
}

/** The wish of a task to be run again: `throw new Retry({ countdown: 5, cause: error })`. */
export class Retry extends Error {
  constructor({ countdown, eta, maxRetries, args, kwargs, cause } = {}) {
    super("retry", cause === undefined ? undefined : { cause });
    if (countdown !== undefined && !(typeof countdown === "number" && countdown >= 0)) {
      throw new TypeError("Retry: countdown takes a number of seconds that is not negative");
    }
    if (maxRetries !== undefined && maxRetries !== null && !(Number.isInteger(maxRetries) && maxRetries >= 0)) {
      throw new TypeError("Retry: maxRetries takes a whole number that is not negative");
    }
    if (args !== undefined && !Array.isArray(args) && !(args instanceof Json)) throw new TypeError("Retry: args takes an array");
    this.countdown = countdown;
    this.eta = eta instanceof Date ? eta.toISOString() : eta;
    this.maxRetries = maxRetries;
    this.args = args;
    this.kwargs = kwargs;
  }

  get name() {
    return "Retry";
  }
}

/** Gives the message back to the broker, to be delivered again or not. */
export class Reject extends Error {
  constructor(requeue = false) {
    super(`reject (requeue: ${Boolean(requeue)})`);
    this.requeue = Boolean(requeue);
  }

  get name() {
    return "Reject";
  }
}

/** Ends the task with nothing stored or announced. */
export class Ignore extends Error {
  constructor() {
    super("ignore");
  }

  get name() {
    return "Ignore";
  }
}

/** Puts another task, or a canvas, in this one's place, under its id. */
export class Replace extends Error {
  constructor(signature) {
    super("replace");
    this.signature = signature;
  }

  get name() {
    return "Replace";
  }
}

/** What the host refused, with a class for each reason. */
class HostError extends Error {
  get name() {
    return this.constructor.name;
  }
}

export class PublishError extends HostError {}
export class PublishDenied extends PublishError {}
export class PublishInvalid extends PublishError {}
export class PublishLimited extends PublishError {}
export class PublishUnavailable extends PublishError {}

export class ResultError extends HostError {}
export class ResultDenied extends ResultError {}
export class ResultInvalid extends ResultError {}
export class ResultUnpublished extends ResultError {}
export class ResultTimedOut extends ResultError {}
export class ResultCancelled extends ResultError {}
export class ResultUnavailable extends ResultError {}

export class StateError extends HostError {}
export class StateInvalid extends StateError {}
export class StateLimited extends StateError {}
export class StateUnavailable extends StateError {}

export class EventError extends HostError {}
export class EventInvalid extends EventError {}
export class EventLimited extends EventError {}

/** A setting or a secret that was not lent. */
export class Denied extends HostError {}
/** A bucket that cannot be had, or did not answer. */
export class BucketError extends HostError {}
/** A request that got no response; `code` is WASI's name for why, such as "connection-refused". */
export class HttpError extends HostError {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

const PUBLISH = { denied: PublishDenied, invalid: PublishInvalid, limited: PublishLimited, unavailable: PublishUnavailable };
const RESULT = {
  denied: ResultDenied,
  invalid: ResultInvalid,
  unpublished: ResultUnpublished,
  "timed-out": ResultTimedOut,
  cancelled: ResultCancelled,
  unavailable: ResultUnavailable,
};
const STATE = { invalid: StateInvalid, limited: StateLimited, unavailable: StateUnavailable };
const EVENT = { invalid: EventInvalid, limited: EventLimited };

/** Calls the host; what it refuses is an error of the class that stands for the reason. */
function calling(classes, base) {
  return (call) => {
    try {
      return call();
    } catch (error) {
      const refusal = error?.payload;
      if (refusal === undefined || refusal === null) throw error;
      throw new (classes[refusal.tag] ?? base)(refusal.val ?? refusal.tag ?? String(refusal));
    }
  };
}

export const publishing = calling(PUBLISH, PublishError);
export const asking = calling(RESULT, ResultError);
export const storing = calling(STATE, StateError);
export const telling = calling(EVENT, EventError);
export const borrowing = calling({}, Denied);
export const keeping = (call) => {
  try {
    return call();
  } catch (error) {
    const refusal = error?.payload;
    if (refusal === undefined || refusal === null) throw error;
    const texts = { "no-such-store": "there is no such bucket", "access-denied": "the bucket is denied" };
    throw new BucketError(refusal.val ?? texts[refusal.tag] ?? String(refusal.tag));
  }
};
