// Requests to servers over wasi:http, with the names of the web platform. Only hosts that the plugin was granted answer;
// bodies are whole, not streams. There is no cache, no cookie and no decompression.

import handler from "wqjs:http/outgoing-handler@0.2.6";
import http from "wqjs:http/types@0.2.6";
import monotonic from "wqjs:clocks/monotonic-clock@0.2.6";
import poll from "wqjs:io/poll@0.2.6";

import { timeoutError } from "./abort.js";
import { TextDecoder, TextEncoder } from "./encoding.js";
import { HttpError } from "./errors.js";
import { parse } from "./json.js";
import { waitFor } from "./loop.js";
import { URL, URLSearchParams } from "./url.js";

const REDIRECTS_MAX = 20;
const METHODS = ["get", "head", "post", "put", "delete", "connect", "options", "trace", "patch"];
const READ_BYTES = 64 * 1024;

export class Headers {
  #values = new Map();

  constructor(init = {}) {
    const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
    for (const [name, value] of pairs) this.append(name, value);
  }

  append(name, value) {
    const known = this.get(name);
    this.#values.set(String(name).toLowerCase(), known === null ? String(value).trim() : `${known}, ${String(value).trim()}`);
  }

  set(name, value) {
    this.#values.set(String(name).toLowerCase(), String(value).trim());
  }

  get(name) {
    return this.#values.get(String(name).toLowerCase()) ?? null;
  }

  has(name) {
    return this.#values.has(String(name).toLowerCase());
  }

  delete(name) {
    this.#values.delete(String(name).toLowerCase());
  }

  forEach(act) {
    for (const [name, value] of this) act(value, name, this);
  }

  keys() {
    return this.#values.keys();
  }

  values() {
    return this.#values.values();
  }

  entries() {
    return this.#values.entries();
  }

  [Symbol.iterator]() {
    return this.entries();
  }
}

/** A request as it will be sent. */
export class Request {
  constructor(input, init = {}) {
    const from = input instanceof Request ? input : {};
    this.url = new URL(input instanceof Request ? input.url : input).href;
    if (!/^https?:/.test(this.url)) throw new TypeError(`${this.url}: only http and https are there`);
    const method = String(init.method ?? from.method ?? "GET");
    this.method = METHODS.includes(method.toLowerCase()) ? method.toUpperCase() : method;
    this.headers = new Headers(init.headers ?? from.headers);
    this.redirect = init.redirect ?? from.redirect ?? "follow";
    this.signal = init.signal ?? from.signal;
    this.timeout = init.timeout ?? from.timeout;
    this.maxBytes = init.maxBytes ?? from.maxBytes ?? Infinity;
    [this.body, this.type] = content(init.body ?? from.body);
    if (this.body !== undefined && ["GET", "HEAD"].includes(this.method)) throw new TypeError(`a ${this.method} request has no body`);
    if (this.type !== undefined && !this.headers.has("content-type")) this.headers.set("content-type", this.type);
  }
}

function content(body) {
  if (body === undefined || body === null) return [];
  if (typeof body === "string") return [new TextEncoder().encode(body), "text/plain;charset=UTF-8"];
  if (body instanceof URLSearchParams) return [new TextEncoder().encode(String(body)), "application/x-www-form-urlencoded;charset=UTF-8"];
  if (body instanceof ArrayBuffer) return [new Uint8Array(body)];
  if (ArrayBuffer.isView(body)) return [new Uint8Array(body.buffer, body.byteOffset, body.byteLength)];
  throw new TypeError("a body is a text, bytes (Uint8Array, ArrayBuffer) or URLSearchParams; write JSON with JSON.stringify");
}

/** What a server has answered, whole. */
export class Answer {
  constructor({ url, status, headers, bytes, redirected }) {
    this.url = url;
    this.status = status;
    this.headers = headers;
    this.bytes = bytes;
    this.redirected = redirected;
  }

  get ok() {
    return this.status >= 200 && this.status < 300;
  }

  get text() {
    return new TextDecoder().decode(this.bytes);
  }

  json() {
    return parse(this.text);
  }
}

/** The same with the names of the web platform. */
export class Response {
  #answer;
  bodyUsed = false;
  statusText = "";

  constructor(body = null, { status = 200, headers, url = "", redirected = false } = {}) {
    this.#answer = body instanceof Answer ? body : new Answer({ url, status, headers: new Headers(headers), bytes: content(body)[0] ?? new Uint8Array(), redirected });
    for (const name of ["url", "status", "headers", "redirected", "ok"]) this[name] = this.#answer[name];
  }

  async bytes() {
    if (this.bodyUsed) throw new TypeError("the body was read already");
    this.bodyUsed = true;
    return this.#answer.bytes;
  }

  async text() {
    return new TextDecoder().decode(await this.bytes());
  }

  async json() {
    return parse(await this.text());
  }

  async arrayBuffer() {
    return (await this.bytes()).slice().buffer;
  }
}

/** Requests that are on their way. */
const open = new Set();

/** Gives up what is still on its way when a task has ended: left alone, its parts would be released in any order. */
export function abandon() {
  for (const steps of open) steps.return();
  open.clear();
}

/** Sends a request and gives a promise of the response; several may be on their way at a time. */
export function fetch(input, init) {
  return new Promise((resolve, reject) => {
    const request = new Request(input, init);
    const { signal } = request;
    signal?.throwIfAborted();
    const steps = follow(request);
    const called = new Error("fetch");
    open.add(steps);
    let waiting;
    let alarm;
    const finish = (act, value) => {
      clearTimeout(alarm);
      open.delete(steps);
      // What happens later is shown where it was asked for.
      if (value instanceof Error) value.stack = called.stack;
      act(value);
    };
    const advance = (method, value) => {
      let step;
      try {
        step = steps[method](value);
      } catch (error) {
        return finish(reject, error);
      }
      if (step.done) return finish(resolve, new Response(step.value));
      waiting = waitFor(step.value);
      waiting.then(() => advance("next"));
    };
    const stop = (reason) => {
      if (waiting?.cancel()) advance("throw", reason);
    };
    signal?.addEventListener("abort", () => stop(signal.reason));
    if (request.timeout !== undefined) alarm = setTimeout(() => stop(timeoutError(request.timeout)), request.timeout);
    advance("next");
  });
}

/** Sends a request and waits for the answer. */
export function fetchSync(input, init) {
  const request = new Request(input, init);
  const timeout = request.timeout ?? request.signal?.timeoutMs;
  const alarm = timeout === undefined ? undefined : monotonic.subscribeDuration(Math.ceil(timeout * 1e6));
  const steps = follow(request);
  try {
    let step = steps.next();
    while (!step.done) {
      const ready = poll.poll(alarm === undefined ? [step.value] : [step.value, alarm]);
      step = ready.includes(0) ? steps.next() : steps.throw(timeoutError(timeout));
    }
    return step.value;
  } finally {
    alarm?.[Symbol.dispose]();
  }
}

/** Yields what has to be waited for. */
function* follow(request) {
  for (let hops = 0; ; hops += 1) {
    const answer = yield* exchange(request);
    answer.redirected = hops > 0;
    const location = answer.headers.get("location");
    if (![301, 302, 303, 307, 308].includes(answer.status) || location === null || request.redirect === "manual") return answer;
    if (request.redirect === "error") throw new HttpError(`${request.url} redirects to ${location}`, "redirect");
    if (hops === REDIRECTS_MAX) throw new HttpError(`${request.url} redirects more than ${REDIRECTS_MAX} times`, "redirect");
    const next = new URL(location, request.url);
    if (next.origin !== new URL(request.url).origin) for (const name of ["authorization", "cookie"]) request.headers.delete(name);
    if (answer.status === 303 || (answer.status < 303 && request.method === "POST")) {
      if (request.method !== "HEAD") request.method = "GET";
      request.body = undefined;
      for (const name of ["content-type", "content-length"]) request.headers.delete(name);
    }
    request.url = next.href;
  }
}

/** Resources are released children first: the host refuses any other order. */
class Resources {
  #held = [];

  hold(resource) {
    this.#held.push(resource);
    return resource;
  }

  release(resource) {
    this.#held = this.#held.filter((held) => held !== resource);
    resource[Symbol.dispose]();
  }

  /** It belongs to somebody else now. */
  give(resource) {
    this.#held = this.#held.filter((held) => held !== resource);
    return resource;
  }

  releaseAll() {
    for (const resource of this.#held.reverse()) resource[Symbol.dispose]();
  }
}

function* exchange(request) {
  const resources = new Resources();
  try {
    const future = resources.hold(yield* send(request, resources));
    let found = future.get();
    while (found === null || found === undefined) {
      yield* ready(future, resources);
      found = future.get();
    }
    const response = resources.hold(unwrap(found, request));
    const fields = resources.hold(response.headers());
    const decoder = new TextDecoder("latin1");
    const headers = new Headers(fields.entries().map(([name, value]) => [name, decoder.decode(value)]));
    resources.release(fields);
    const bytes = yield* receive(response, request, resources);
    return new Answer({ url: request.url, status: response.status(), headers, bytes, redirected: false });
  } finally {
    resources.releaseAll();
  }
}

/** The future of the response, once the body is on its way. */
function* send(request, resources) {
  const url = new URL(request.url);
  const encoder = new TextEncoder();
  const entries = [...request.headers].map(([name, value]) => [name, encoder.encode(value)]);
  if (url.username !== "" && !request.headers.has("authorization")) {
    entries.push(["authorization", encoder.encode(`Basic ${btoa(`${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`)}`)]);
  }
  const body = request.body;
  if (body !== undefined || ["POST", "PUT", "PATCH"].includes(request.method)) {
    if (!request.headers.has("content-length")) entries.push(["content-length", encoder.encode(String(body?.length ?? 0))]);
  }
  const outgoing = new http.OutgoingRequest(checked(() => http.Fields.fromList(entries), "a header is none, or may not be set"));
  const lower = request.method.toLowerCase();
  const method = METHODS.includes(lower) && request.method === lower.toUpperCase() ? { tag: lower } : { tag: "other", val: request.method };
  checked(() => outgoing.setMethod(method), `${request.method} is no method`);
  checked(() => outgoing.setScheme({ tag: url.protocol === "https:" ? "HTTPS" : "HTTP" }), url.protocol);
  checked(() => outgoing.setAuthority(url.host), `${url.host} is no host`);
  checked(() => outgoing.setPathWithQuery(url.pathname + url.search), `${url.pathname} is no path`);
  const out = body === undefined ? undefined : resources.hold(outgoing.body());
  const future = failing(() => handler.handle(outgoing, null), request);
  if (out === undefined) return future;
  resources.hold(future);
  const stream = resources.hold(out.write());
  let sent = 0;
  try {
    while (sent < body.length) {
      const room = Number(stream.checkWrite());
      if (room === 0) yield* ready(stream, resources);
      else {
        stream.write(body.subarray(sent, sent + room));
        sent += room;
      }
    }
    stream.flush();
  } catch (error) {
    if (error?.payload === undefined) throw error;
    // The server may have answered before it had read everything: then that is what counts.
  }
  resources.release(stream);
  try {
    http.OutgoingBody.finish(resources.give(out), null);
  } catch (error) {
    if (error?.payload === undefined) throw error;
  }
  return resources.give(future);
}

function* receive(response, request, resources) {
  const incoming = resources.hold(response.consume());
  const stream = resources.hold(incoming.stream());
  const chunks = [];
  let length = 0;
  for (;;) {
    let chunk;
    try {
      chunk = stream.read(READ_BYTES);
    } catch (error) {
      const refusal = error?.payload;
      if (refusal?.tag === "closed") break;
      if (refusal === undefined) throw error;
      const code = http.httpErrorCode(refusal.val);
      throw code ? failure(code, request) : new HttpError(`${request.url}: ${refusal.val.toDebugString()}`, "body");
    }
    if (chunk.length === 0) {
      yield* ready(stream, resources);
      continue;
    }
    length += chunk.length;
    if (length > request.maxBytes) throw new HttpError(`${request.url}: the response is longer than maxBytes, ${request.maxBytes} bytes`, "HTTP-response-body-size");
    chunks.push(chunk instanceof Uint8Array ? chunk : Uint8Array.from(chunk));
  }
  resources.release(stream);
  resources.release(incoming);
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

function* ready(resource, resources) {
  const pollable = resources.hold(resource.subscribe());
  yield pollable;
  resources.release(pollable);
}

function checked(act, text) {
  try {
    return act();
  } catch (error) {
    if (!("payload" in Object(error))) throw error;
    throw new TypeError(text);
  }
}

function failing(act, request) {
  try {
    return act();
  } catch (error) {
    if (error?.payload === undefined) throw error;
    throw failure(error.payload, request);
  }
}

/** result<result<response, error-code>> */
function unwrap(result, request) {
  if (result.tag !== "ok") throw new HttpError(`${request.url}: the response was taken already`, "internal-error");
  if (result.val.tag !== "ok") throw failure(result.val.val, request);
  return result.val.val;
}

/** The host's own words, if it has some. */
function failure(code, request) {
  const tag = typeof code === "string" ? code : code.tag;
  const said = code.val === undefined || code.val === null ? "" : typeof code.val === "string" ? code.val : JSON.stringify(code.val);
  const words = tag.replace(/-/g, " ");
  const text = tag === "internal-error" && said !== "" ? said : said === "" ? words : `${words}: ${said}`;
  return new HttpError(`${request.method} ${request.url}: ${text}`, tag);
}
