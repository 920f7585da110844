// A host for unit tests: records what a task says and sends, and gives the answers that a test wants.

import { Context, withContext } from "./lib/context.js";
import { NO_HOST, setHost } from "./lib/host.js";
import { parse, write } from "./lib/json.js";
import { Signature } from "./lib/canvas.js";
import { AsyncResult } from "./lib/results.js";

/** What a task would have told its host. */
export class Recorder {
  constructor({ config = {}, secrets = {}, results = {}, answers } = {}) {
    this.states = [];
    this.events = [];
    this.lines = [];
    /** Signatures that are published if the task succeeds. */
    this.published = [];
    /** Signatures that were published at once. */
    this.publishedNow = [];
    this.isCancelled = false;
    this.remaining = Infinity;
    this.buckets = new Map();
    this.config = config;
    this.secrets = secrets;
    this.results = results;
    this.answers = answers;
  }

  /** Runs a task, or any function, with this host and a context. */
  run(fn, { id = "test", task = "test", retries = 0, request } = {}) {
    const before = setHost(this._host());
    const restore = () => void setHost(before);
    let result;
    try {
      result = withContext(new Context({ id, task, retries, request }), fn);
    } catch (error) {
      restore();
      throw error;
    }
    if (typeof result?.then === "function") return result.finally(restore);
    restore();
    return result;
  }

  _host() {
    const given = (values, name, missing) => (name in values ? values[name] : missing());
    const send = (into) => (text) => {
      const signature = Signature.from(text);
      into.push(signature);
      return String(signature.toJSON().options.task_id ?? `${signature.task}-${into.length}`);
    };
    const applied = (text, now) => write(new AsyncResult(send(now ? this.publishedNow : this.published)(text)));
    return {
      ...NO_HOST,
      cancelled: () => this.isCancelled,
      remainingMs: () => this.remaining * 1000,
      updateState: (state, meta) => void this.states.push([state, parse(meta)]),
      sendEvent: (kind, fields) => void this.events.push([kind, parse(fields)]),
      log: (level, _, text) => void this.lines.push([level, text]),
      send: send(this.published),
      immediately: send(this.publishedNow),
      apply: (text, _args, _kwargs, now) => applied(text, now),
      addToChord: (text, now) => applied(text, now),
      result: (id) => write({ task_id: id, state: id in this.results ? "SUCCESS" : "PENDING", result: this.results[id] ?? null }),
      wait: (id) => write({ task_id: id, state: id in this.results ? "SUCCESS" : "PENDING", result: this.results[id] ?? null }),
      config: (key) => given(this.config, key, () => NO_HOST.config(key)),
      secret: (name) => given(this.secrets, name, () => NO_HOST.secret(name)),
      bucket: (name) => this._bucket(name),
      fetchSync: (url, init) => {
        if (this.answers === undefined) return NO_HOST.fetchSync();
        const { status = 200, headers = {}, text = "", bytes = new TextEncoder().encode(text) } = this.answers(url, init ?? {});
        const answer = { url, status, ok: status >= 200 && status < 300, redirected: false, headers: new Headers(headers), bytes };
        return { ...answer, text: new TextDecoder().decode(bytes), json: () => parse(new TextDecoder().decode(bytes)) };
      },
    };
  }

  _bucket(name) {
    if (!this.buckets.has(name)) this.buckets.set(name, new Map());
    const values = this.buckets.get(name);
    return {
      get: (key) => values.get(key) ?? null,
      set: (key, value) => void values.set(key, value),
      delete: (key) => void values.delete(key),
      exists: (key) => values.has(key),
      listKeys: () => ({ keys: [...values.keys()], cursor: null }),
      increment(key, delta) {
        const sum = Number(new TextDecoder().decode(values.get(key) ?? new Uint8Array())) + delta;
        values.set(key, new TextEncoder().encode(String(sum)));
        return sum;
      },
      cas: (key) => ({ key, current: () => values.get(key) ?? null }),
      swap: ({ key }, value) => void values.set(key, value),
    };
  }
}
