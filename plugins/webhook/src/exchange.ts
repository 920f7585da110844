/** Sends a request, and says what its answer means: a result, another try, or an error. */

import { type Answer, HttpError, Retry, context, request, secret } from "taskhost";

/** A header, or one that ends with a secret of the plugin's. */
export type HeaderValue = string | number | { secret: string; prefix?: string };

export interface Call {
  method: string;
  headers: Record<string, HeaderValue>;
  body: string | undefined;
  type: string | undefined;
  expect: number | number[] | null;
  /** Seconds. */
  timeout: number;
  maxBytes: number;
}

/** The server has answered, and not as it should. */
export class WebhookError extends Error {
  readonly arguments: [string, number | null];

  constructor(message: string, status: number | null, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.arguments = [message, status];
  }
}

/** What was called says itself that it has failed: Celery's `RemoteExecuteError`. */
export class RemoteError extends WebhookError {}

/** Statuses after which another try may do better. */
const PASSING = [408, 425, 429, 500, 502, 503, 504];
/** So are these of WASI's reasons for which there is no answer. */
const AWAY = /^(?:connection-|DNS-|destination-unavailable|HTTP-response-(?:incomplete|timeout)|TimeoutError)/;
const TEXT_MAX = 500;
/** No server is waited for longer, whatever it asks for. */
const WAIT_MAX_SECONDS = 3600;

export function send(url: string, call: Call): Answer {
  const where = `${call.method} ${shown(url)}`;
  if (!(call.timeout > 0)) throw new TypeError("timeout is a number of seconds above zero");
  let answer: Answer;
  try {
    answer = request(url, {
      method: call.method,
      headers: headers(call),
      ...(call.body !== undefined && { body: call.body }),
      // A redirection is an answer like any other: a body is not sent to somebody else.
      redirect: "manual",
      timeout: call.timeout * 1000,
      maxBytes: call.maxBytes,
    });
  } catch (error) {
    const code = error instanceof HttpError ? error.code : (error as Error).name;
    if (!AWAY.test(code)) throw error;
    throw again(new WebhookError(`${where} got no answer: ${(error as Error).message}`, null, error), undefined);
  }
  const { status } = answer;
  const isExpected = call.expect === null ? answer.ok : [call.expect].flat().includes(status);
  if (isExpected) return answer;
  const error = new WebhookError(`${where} answered ${status}: ${textOf(answer)}`, status);
  if (PASSING.includes(status)) throw again(error, answer.headers.get("retry-after") ?? undefined);
  throw error;
}

function headers({ headers, type }: Call): [string, string][] {
  const { id, retries } = context();
  const given = Object.entries(headers).map(([name, value]): [string, string] => [name.toLowerCase(), header(name, value)]);
  const ours: [string, string | undefined][] = [
    ["content-type", type],
    ["user-agent", "taskhost-webhook/0.1"],
    // The same for every try, so that the server can tell a repetition.
    ["idempotency-key", id],
    ["x-task-id", id],
    ["x-task-retries", String(retries)],
  ];
  const missing = ours.filter((pair): pair is [string, string] => pair[1] !== undefined && !given.some(([name]) => name === pair[0]));
  return [...given, ...missing];
}

function header(name: string, value: HeaderValue): string {
  if (typeof value === "string" || typeof value === "number") return String(value);
  if (typeof value?.secret === "string") return `${value.prefix ?? ""}${secret(value.secret)}`;
  throw new TypeError(`header '${name}' is a text, or {"secret": .., "prefix": ..}`);
}

/** Another try: when the server says so, or later each time. */
function again(cause: WebhookError, retryAfter: string | undefined): Retry {
  const countdown = waited(retryAfter) ?? 2 ** Math.min(context().retries, 10);
  return new Retry({ countdown: Math.min(countdown, WAIT_MAX_SECONDS), cause });
}

/** Seconds, from a number of them or a date. */
export function waited(retryAfter: string | undefined, now = Date.now()): number | undefined {
  if (retryAfter === undefined) return undefined;
  if (/^\s*\d+\s*$/.test(retryAfter)) return Number(retryAfter);
  const date = Date.parse(retryAfter);
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil((date - now) / 1000));
}

/** A URL as it may be shown: credentials and query may hold what nobody is to see. */
export function shown(url: string): string {
  const { origin, pathname, search } = new URL(url);
  return `${origin}${pathname}${search === "" ? "" : "?.."}`;
}

export function textOf({ text }: { text: string }): string {
  const trimmed = text.trim();
  return trimmed.length > TEXT_MAX ? `${trimmed.slice(0, TEXT_MAX)}..` : trimmed || "nothing";
}
