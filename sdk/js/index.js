// Tasks for Taskhost, in JavaScript and TypeScript.

export { task } from "./lib/task.js";
export { Context, context, withContext } from "./lib/context.js";
export { Json, parse as parseJson, write as writeJson } from "./lib/json.js";
export { Signature, signature, chain, chord, chunks, group, xmap, xstarmap } from "./lib/canvas.js";
export { AsyncResult, TaskResult } from "./lib/results.js";
export { Bucket, config, environment, secret, sleep } from "./lib/lent.js";
export { logger } from "./lib/log.js";
export {
  BucketError,
  Denied,
  EventError,
  EventInvalid,
  EventLimited,
  HttpError,
  Ignore,
  PublishDenied,
  PublishError,
  PublishInvalid,
  PublishLimited,
  PublishUnavailable,
  Reject,
  Replace,
  ResultCancelled,
  ResultDenied,
  ResultError,
  ResultInvalid,
  ResultTimedOut,
  ResultUnavailable,
  ResultUnpublished,
  Retry,
  StateError,
  StateInvalid,
  StateLimited,
  StateUnavailable,
  TaskError,
} from "./lib/errors.js";

import { host } from "./lib/host.js";

/** Sends a request and waits for the whole answer; `fetch` does the same with promises. */
export const request = (url, init) => host().fetchSync(url, init);
