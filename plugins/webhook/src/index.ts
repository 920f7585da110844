/** Tasks that call a URL and give back what it answered. */

import { Json, type JsonValue, parseJson, task } from "taskhost";

import { encoded, inQuery } from "./encoding";
import { type HeaderValue, RemoteError, WebhookError, send, shown, textOf } from "./exchange";

/** Celery's retries are for what may be better the next time: a server that is away, busy or broken. */
const RETRIES = { maxRetries: 5, timeLimit: 120 };

/** Calls a URL, by default with the JSON of `data`, and returns the body of the answer: its JSON, or its text. */
export const call = task({ ...RETRIES, summary: "Calls a URL and returns what it answers." }, exchange);

/** The same for the end of a chain, or for a callback: the result of the task before comes first. */
export const notify = task(
  { ...RETRIES, summary: "Calls a URL with the result of the task before." },
  (
    data: Json,
    url: string,
    method = "POST",
    headers: Record<string, HeaderValue> = {},
    encoding = "json",
    expect: number | number[] | null = null,
    timeout = 30,
    maxBytes = 1024 * 1024,
    answer = "body",
  ) => exchange(url, data, method, headers, encoding, expect, timeout, maxBytes, answer),
);

function exchange(
  url: string,
  data?: Json,
  method = "POST",
  headers: Record<string, HeaderValue> = {},
  encoding = "json",
  expect: number | number[] | null = null,
  timeout = 30,
  maxBytes = 1024 * 1024,
  answer = "body",
) {
  if (answer !== "body" && answer !== "response") throw new TypeError(`answer is "body" or "response", not ${JSON.stringify(answer)}`);
  const value = data === undefined || data.text.trim() === "null" ? undefined : data;
  const { target, body, type } = encoded(url, method.toUpperCase(), value, encoding);
  const response = send(target, { method: method.toUpperCase(), headers, body, type, expect, timeout, maxBytes });
  const content = bodyOf(response);
  if (answer === "body") return content;
  return { status: response.status, headers: Object.fromEntries(response.headers.entries()), body: content };
}

/**
 * What Celery's `HttpDispatchTask` did: the keyword arguments go as a form (or in the query of a GET), and the answer is
 * `{"status": "success", "retval": ..}` or `{"status": "failure", "reason": ..}`.
 */
export const dispatch = task(
  { ...RETRIES, summary: "Calls a URL as Celery's HttpDispatchTask did.", kwargs: "kwargs" },
  (url: string, method = "GET", kwargs: Record<string, JsonValue>) => {
    const upper = method.toUpperCase();
    const { target, body, type } = encoded(url, upper, new Json(JSON.stringify(stringly(kwargs))), inQuery(upper) ? "json" : "form");
    const response = send(target, { method: upper, headers: {}, body, type, expect: null, timeout: 30, maxBytes: 1024 * 1024 });
    let told: JsonValue;
    try {
      told = parseJson(response.text);
    } catch {
      throw new WebhookError(`${upper} ${shown(url)} answered no JSON: ${textOf(response)}`, response.status);
    }
    const { status, retval = null, reason = null } = Object(told) as Record<string, JsonValue>;
    if (status === "success") return retval;
    if (status === "failure") throw new RemoteError(typeof reason === "string" ? reason : JSON.stringify(reason), response.status);
    throw new WebhookError(`${upper} ${shown(url)} answered neither success nor failure: ${textOf(response)}`, response.status);
  },
);

/** The JSON of an answer, as the server wrote it; of any other its text. */
function bodyOf(response: { status: number; headers: { get(name: string): string | null }; text: string; url: string }): unknown {
  const { text } = response;
  if (text === "") return null;
  if (!/^application\/(?:json|[\w.+-]+\+json)\b/i.test(response.headers.get("content-type") ?? "")) return text;
  try {
    parseJson(text);
  } catch (error) {
    throw new WebhookError(`${shown(response.url)} answered ${(error as Error).message}: ${textOf(response)}`, response.status);
  }
  return new Json(text);
}

/** A form has texts only: what is none is written as JSON. */
function stringly(values: Record<string, JsonValue>): Record<string, JsonValue> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, typeof value === "bigint" ? String(value) : value]));
}
