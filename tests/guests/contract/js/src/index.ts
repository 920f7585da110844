/** What every SDK can do, see `../../README.md`. */

import {
  type AsyncResult,
  Bucket,
  Ignore,
  Json,
  type JsonValue,
  Reject,
  Replace,
  Retry,
  Signature,
  StateError,
  TaskError,
  config,
  context,
  logger,
  secret,
  sleep,
  task,
} from "taskhost";

import { canvas } from "./canvas";

class ContractError extends Error {}

/** Sums beyond what a number holds exactly are BigInts. */
export const add = task((x: number | bigint, y: number | bigint) => {
  const sum = Number(x) + Number(y);
  const isWhole = [x, y].every((number) => typeof number === "bigint" || Number.isInteger(number));
  return isWhole && !Number.isSafeInteger(sum) ? BigInt(x) + BigInt(y) : sum;
});

export const echo = task((value: Json) => value);

export const parsed = task((value: JsonValue) => value);

export const greet = task((name: string, greeting = "Hello", punctuation = "!") => `${greeting}, ${name}${punctuation}`);

export const collect = task({ kwargs: "kwargs" }, (kwargs: Record<string, JsonValue>, ...args: JsonValue[]) => ({ args, kwargs }));

function deeper(): never {
  throw new ContractError("own trouble");
}

export const fail = task((kind = "value") => {
  switch (kind) {
    case "own":
      return deeper();
    case "chained":
      throw new ContractError("outer", { cause: new TaskError("ValueError", "inner") });
    case "empty":
      throw new ContractError();
    default:
      throw new TaskError("ValueError", "bad value", { arguments: ["bad value", 42] });
  }
});

export const crash = task(() => (null as unknown as { x: number }).x);

const connectionError = (attempt: number) => new TaskError("ConnectionError", `attempt ${attempt}`);

export const retry = task({ maxRetries: null }, (times = 2, countdown = 0) => {
  const { retries } = context();
  if (retries < times) throw new Retry({ countdown, cause: connectionError(retries + 1) });
  return retries;
});

export const retry_args = task((word: string) => {
  if (context().retries === 0) throw new Retry({ args: ["second"], countdown: 0 });
  return word;
});

export const give_up = task({ maxRetries: 1, defaultRetryDelay: 0 }, () => {
  throw new Retry({ cause: new TaskError("ValueError", "never") });
});

export const unsteady = task({ autoretryFor: ["ConnectionError"], maxRetries: 2, defaultRetryDelay: 0 }, (times = 1) => {
  const { retries } = context();
  if (retries < times) throw connectionError(retries + 1);
  return retries;
});

export const reject = task((requeue = false) => {
  throw new Reject(requeue);
});

export const ignore = task(() => {
  throw new Ignore();
});

export const replace = task((task: string, args: JsonValue[]) => {
  throw new Replace(new Signature(task).args(...args));
});

export const progress = task((steps = 3) => {
  for (let step = 1; step <= steps; step += 1) context().progress(step, steps);
  context().updateState("CUSTOM", { note: "ü" });
  return steps;
});

export const report = task((state: string) => {
  try {
    context().updateState(state, {});
    return null;
  } catch (error) {
    if (error instanceof StateError) return error.message;
    throw error;
  }
});

export const event = task((kind: string) => context().sendEvent(kind, { x: 1 }));

export const about = task({ name: "contract.context" }, () => {
  const { id, task, retries, request } = context();
  const delivery = request.delivery_info as Record<string, JsonValue>;
  return {
    id,
    task,
    retries,
    cancelled: context().cancelled(),
    remaining: context().remaining(),
    root_id: request.root_id,
    queue: delivery.routing_key,
  };
});

export const graceful = task({ handlesSoftLimit: true, softTimeLimit: 1, timeLimit: 30 }, async (seconds = 60) => {
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    if (context().cancelled()) return "cancelled";
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return "finished";
});

export const soft = task({ softTimeLimit: 1, timeLimit: 30 }, () => sleep(20_000));

export const spin = task({ timeLimit: 1 }, () => {
  for (;;) {}
});

export const hog = task(() => {
  const held: Uint8Array[] = [];
  for (;;) held.push(new Uint8Array(1_000_000).fill(1));
});

export const recurse = task(() => {
  const deep = (depth: number): number => deep(depth + 1) + 1;
  return deep(0);
});

export const flood = task((megabytes: number) => "x".repeat(megabytes * 1024 * 1024));

export const publish = task((task: string, args: JsonValue[], now = false, fail = false) => {
  const call = new Signature(task).args(...args);
  const id = now ? context().publishNow(call) : context().publish(call);
  if (fail) throw new TaskError("ValueError", "after the call");
  return id;
});

export const apply = task((canvas: JsonValue): AsyncResult => context().applyNow(Signature.from(canvas)));

export const ask = task((task: string, args: JsonValue[], timeout = 20) => {
  const id = context().publishNow(new Signature(task).args(...args));
  return context().wait(id, timeout).result;
});

export const compose = task((name: string) => canvas(name));

export const become = task((name: string) => {
  throw new Replace(canvas(`become ${name}`));
});

export const extend = task((items: number[]) => {
  for (const item of items) context().addToChord(add.s(item, 0));
  return 0;
});

export const sum = task((numbers: number[]) => numbers.reduce((total, number) => total + number, 0));

export const log = task((text: string) => {
  logger.info(text);
  logger.warn(`warning: ${text}`);
  console.log(`stdout: ${text}`);
  console.error(`stderr: ${text}`);
});

export const lentConfig = task({ name: "contract.config" }, (key: string) => config(key));

export const lentSecret = task({ name: "contract.secret" }, (name: string) => secret(name).length);

export const keep = task((bucket: string, key: string, value: string) => {
  const open = Bucket.open(bucket);
  open.set(key, value);
  return [open.getText(key), open.increment("n", 2)];
});

export const options = task(
  {
    summary: "Has every option.",
    queue: "slow",
    maxRetries: 7,
    defaultRetryDelay: 1.5,
    rateLimit: "10/m",
    timeLimit: 20,
    softTimeLimit: 10,
    acksLate: false,
    ignoreResult: false,
    trackStarted: true,
    retryBackoff: true,
  },
  () => null,
);
