/** Tasks for Taskhost, in TypeScript and JavaScript. */

/** What JSON holds. An integer beyond 2**53 is a bigint; a float may be NaN or infinite, as Python writes them. */
export type JsonValue = null | boolean | number | bigint | string | JsonValue[] | { [name: string]: JsonValue };

/** What becomes JSON: what `JSON.stringify` takes, and bigints, maps, sets and `Json` besides. */
export type ToJson = unknown;

/** JSON text that is passed on byte for byte: as a parameter of type "json", as a result, or inside either. */
export class Json {
  constructor(text: string);
  static of(value: ToJson): Json;
  readonly text: string;
  parse(): JsonValue;
  toString(): string;
}

/** Reads JSON as arguments are read. What is no JSON is a SyntaxError. */
export function parseJson(text: string): JsonValue;
/** Writes JSON as results are written. What JSON cannot hold is a TypeError. */
export function writeJson(value: ToJson): string;

type Kind = "any" | "json" | "string" | "number" | "integer" | "boolean" | "null" | "array" | "object";
/** "string", "number|null", "string?" for an optional one; "json" is given as `Json`, unparsed. */
export type ParameterType = Kind | `${Kind}?` | `${Kind}|${string}`;

/** Celery's task options, by Celery's names or in camelCase. The host checks their values. */
export interface TaskOptions {
  /** What clients call it; by default `<plugin>.<name of the export>`. */
  name?: string;
  /** One line for people, shown by `host plugin list`. */
  summary?: string;
  /** Types of parameters by name, which arguments are checked against; or all names in order, if they cannot be read. */
  params?: Record<string, ParameterType> | readonly string[];
  /** The parameter that takes all further keyword arguments, as an object. */
  kwargs?: string;

  /** How often it may be retried; null means for ever. */
  maxRetries?: number | null;
  /** Seconds. */
  defaultRetryDelay?: number;
  /** Errors after which it is retried by itself: names, or classes. */
  autoretryFor?: readonly (string | ErrorClass)[];
  dontAutoretryFor?: readonly (string | ErrorClass)[];
  retryBackoff?: boolean | number;
  retryBackoffMax?: number;
  retryJitter?: boolean;
  /** Seconds, after which it is stopped. */
  timeLimit?: number | null;
  softTimeLimit?: number | null;
  /** It looks at `context().cancelled()`, and so may end by itself after its soft limit. */
  handlesSoftLimit?: boolean;
  /** Such as "10/m". */
  rateLimit?: string | number | null;
  acksLate?: boolean;
  ignoreResult?: boolean;
  trackStarted?: boolean;
  queue?: string;
  priority?: number;
  [option: string]: unknown;
}

type ErrorClass = abstract new (...args: never[]) => Error;

/** A function that is a task. Called, it is the function. */
export interface Task<F extends (...args: never[]) => unknown> {
  (...args: Parameters<F>): ReturnType<F>;
  readonly taskName: string;
  /** A call of it, to be published: Celery's `s`. Arguments that are not given come from the task before. */
  s(...args: LastOf<Parameters<F>>): Signature;
  /** The same, which takes nothing from the task before: Celery's `si`. */
  si(...args: Parameters<F>): Signature;
}

/** The arguments, or as many of the last ones as are known. */
type LastOf<A extends readonly unknown[]> = A | (A extends readonly [unknown, ...infer R] ? LastOf<R> : []);

/** Makes a task of a function: `export const add = task((x: number, y: number) => x + y)`. */
export function task<F extends (...args: never[]) => unknown>(fn: F): Task<F>;
export function task<F extends (...args: never[]) => unknown>(options: TaskOptions | string, fn: F): Task<F>;

/** The call that is served. */
export class Context {
  /** For tests. */
  constructor(call?: { id?: string; task?: string; retries?: number; request?: { [name: string]: JsonValue } });
  /** The task id that the client chose. */
  readonly id: string;
  readonly task: string;
  /** How often it was retried before. */
  readonly retries: number;
  /** All facts under Celery's names: `root_id`, `group`, `eta`, `headers`, `delivery_info`, .. */
  readonly request: { [name: string]: JsonValue };
  /** True once the task should come to an end. */
  cancelled(): boolean;
  /** Seconds until the hard time limit. */
  remaining(): number;
  /** Celery's `update_state`. What is refused is a `StateError`. */
  updateState(state: string, meta?: ToJson): void;
  /** The state PROGRESS with `current` and `total`. */
  progress(current: number, total: number): void;
  /** Tells monitors something: a kind of your own, such as "task-indexed". */
  sendEvent(kind: string, fields?: Record<string, ToJson>): void;
  /** Calls another task once this one has succeeded or is replaced. Gives its id. */
  publish(call: Callable): string;
  /** Calls another task now, whatever this one comes to. */
  publishNow(call: Callable): string;
  /** As `publish`, and tells where all results will be. */
  apply(call: Callable): AsyncResult;
  /** As `publishNow`, and tells where all results will be. */
  applyNow(call: Callable): AsyncResult;
  /** Adds to the header of the chord that this task is in. */
  addToChord(call: Callable): AsyncResult;
  /** What is known about a task. */
  result(id: string | AsyncResult): TaskResult;
  /** Waits up to so many seconds for a task that was called with `publishNow`. */
  wait(id: string | AsyncResult, timeout: number): TaskResult;
  /** Waits up to so many seconds for all members of a group. */
  join(result: AsyncResult, timeout: number): TaskResult[];
}

/** The call that is served, wherever in the task's code. */
export function context(): Context;
/** Runs a function as if it were a task with this context, for tests. */
export function withContext<T>(context: Context, run: () => T): T;

/** A signature, a task, or its name. */
export type Callable = Signature | Task<any> | string;

/** A call of a task, or a canvas of several: Celery's signature. Every method gives a new one. */
export class Signature {
  constructor(task: string | Task<any>);
  readonly task: string;
  readonly kind: "task" | "chain" | "group" | "chord" | "chunks" | "map" | "starmap";
  /** The steps of a chain, the members of a group, or those of a chord's header. */
  readonly tasks: Signature[];
  /** What a chord calls with the results of its header. */
  readonly body: Signature | null;
  args(...args: ToJson[]): Signature;
  kwargs(kwargs: Record<string, ToJson>): Signature;
  /** An option under Celery's name: `queue`, `priority`, `expires`, `task_id`, .. */
  option(name: string, value: ToJson): Signature;
  /** Several options, in camelCase or by Celery's names. */
  options(options: Record<string, ToJson>): Signature;
  countdown(seconds: number): Signature;
  immutable(): Signature;
  /** Arguments before those that it has. */
  partial(...args: ToJson[]): Signature;
  link(callback: Callable): Signature;
  linkError(errback: Callable): Signature;
  stamp(name: string, value: ToJson): Signature;
  /** Python's `a | b | c`. */
  pipe(...followers: Callable[]): Signature;
  intoTasks(): Signature[];
  /** Celery's map. */
  toJSON(): { [name: string]: JsonValue };
  /** Reads Celery's map, or its text. */
  static from(map: unknown): Signature;
}

/** A signature from a task, its name, or Celery's map. */
export function signature(value: Callable | JsonValue | Json): Signature;
export function chain(...tasks: Callable[]): Signature;
export function chain(tasks: Iterable<Callable>): Signature;
export function group(...tasks: Callable[]): Signature;
export function group(tasks: Iterable<Callable>): Signature;
export function chord(header: Iterable<Callable> | Signature, body: Callable): Signature;
/** Calls of one task, so many of them to a message. */
export function chunks(task: Callable, it: Iterable<readonly ToJson[]>, n: number): Signature;
export function xmap(task: Callable, it: Iterable<ToJson>): Signature;
export function xstarmap(task: Callable, it: Iterable<readonly ToJson[]>): Signature;

/** Where the result of a call will be. A task may return one. */
export class AsyncResult {
  constructor(id: string, parent?: AsyncResult | null, children?: AsyncResult[] | null);
  readonly id: string;
  readonly parent: AsyncResult | null;
  readonly children: AsyncResult[] | null;
  static read(tuple: unknown): AsyncResult;
  toJSON(): unknown;
}

/** What is known about a task. */
export class TaskResult {
  constructor(text: string);
  readonly state: string;
  /** What it returned; of a failure Celery's map of the exception. */
  readonly result: JsonValue;
  readonly traceback: string | null;
  readonly meta: { [name: string]: JsonValue };
  readonly isSuccess: boolean;
  readonly isReady: boolean;
}

/** An error whose class, module and arguments a Python client gets as they are given. */
export class TaskError extends Error {
  constructor(type: string, message?: string, more?: { module?: string; arguments?: readonly ToJson[]; traceback?: string; cause?: unknown });
  readonly type: string;
  readonly module: string;
  readonly arguments: readonly ToJson[] | undefined;
}

/** The wish of a task to be run again. */
export class Retry extends Error {
  constructor(retry?: {
    /** Seconds. */
    countdown?: number;
    eta?: Date | string;
    maxRetries?: number;
    args?: readonly ToJson[];
    kwargs?: Record<string, ToJson>;
    /** The failure, once no retry is left. */
    cause?: unknown;
  });
}

/** Gives the message back to the broker, to be delivered again or not. */
export class Reject extends Error {
  constructor(requeue?: boolean);
}

/** Ends the task with nothing stored or announced. */
export class Ignore extends Error {}

/** Puts another task, or a canvas, in this one's place. */
export class Replace extends Error {
  constructor(signature: Callable);
}

export class PublishError extends Error {}
export class PublishDenied extends PublishError {}
export class PublishInvalid extends PublishError {}
export class PublishLimited extends PublishError {}
export class PublishUnavailable extends PublishError {}
export class ResultError extends Error {}
export class ResultDenied extends ResultError {}
export class ResultInvalid extends ResultError {}
export class ResultUnpublished extends ResultError {}
export class ResultTimedOut extends ResultError {}
export class ResultCancelled extends ResultError {}
export class ResultUnavailable extends ResultError {}
export class StateError extends Error {}
export class StateInvalid extends StateError {}
export class StateLimited extends StateError {}
export class StateUnavailable extends StateError {}
export class EventError extends Error {}
export class EventInvalid extends EventError {}
export class EventLimited extends EventError {}
/** A setting or a secret that was not lent. */
export class Denied extends Error {}
/** A bucket that cannot be had, or did not answer. */
export class BucketError extends Error {}
/** A request that got no response. */
export class HttpError extends Error {
  constructor(message: string, code: string);
  /** WASI's name for why, such as "connection-refused". */
  readonly code: string;
}

/** The value of a setting, declared under `config` in `[needs]`. */
export function config(key: string): string;
/** A secret, declared under `secrets` in `[needs]`. */
export function secret(name: string): string;
/** The environment variables that were granted, declared under `env` in `[needs]`. */
export function environment(): Record<string, string>;
/** Does nothing for so many milliseconds. */
export function sleep(ms: number): void;

/** Values that outlive a task, declared under `keyvalue` in `[needs]`. */
export class Bucket {
  static open(name: string): Bucket;
  get(key: string): Uint8Array | undefined;
  getText(key: string): string | undefined;
  set(key: string, value: Uint8Array | ArrayBuffer | string): void;
  delete(key: string): void;
  exists(key: string): boolean;
  keys(): string[];
  /** Adds to the number under a key, in one step, and gives the sum. */
  increment(key: string, delta?: number): number;
  /** Puts what `change` makes of a value in its place, however many do so; with nothing it gives up. */
  update(key: string, change: (value: Uint8Array | undefined) => Uint8Array | string | undefined): boolean;
}

type Log = (...values: unknown[]) => void;
/** Lines of the worker's log with a level, task id and name. */
export const logger: { trace: Log; debug: Log; info: Log; warn: Log; error: Log; critical: Log };

export interface RequestOptions {
  method?: string;
  headers?: Record<string, string> | Iterable<[string, string]>;
  body?: string | Uint8Array | ArrayBuffer | { toString(): string; entries(): Iterable<[string, string]> };
  /** What becomes of a redirection; "follow" by default. */
  redirect?: "follow" | "manual" | "error";
  /** Milliseconds for all of it. */
  timeout?: number;
  /** A longer response is an `HttpError`. */
  maxBytes?: number;
}

/** What a server has answered. */
export interface Answer {
  readonly url: string;
  readonly status: number;
  readonly ok: boolean;
  readonly redirected: boolean;
  readonly headers: { get(name: string): string | null; has(name: string): boolean; entries(): Iterable<[string, string]> };
  readonly bytes: Uint8Array;
  readonly text: string;
  json(): JsonValue;
}

/** Sends a request and waits for the whole answer. `fetch` does the same with promises. Declared under `http` in `[needs]`. */
export function request(url: string, options?: RequestOptions): Answer;
