// Signals by which a request is given up.

export class AbortSignal {
  aborted = false;
  reason = undefined;
  onabort = null;
  #listeners = [];
  /** When a request is to be given up, in milliseconds from its start; what `timeout()` made. */
  timeoutMs = undefined;

  static abort(reason = abortError()) {
    const signal = new AbortSignal();
    signal._abort(reason);
    return signal;
  }

  static timeout(ms) {
    const signal = new AbortSignal();
    signal.timeoutMs = ms;
    setTimeout(() => signal._abort(timeoutError(ms)), ms);
    return signal;
  }

  static any(signals) {
    const joined = new AbortSignal();
    for (const signal of signals) {
      if (signal.aborted) return AbortSignal.abort(signal.reason);
      signal.addEventListener("abort", () => joined._abort(signal.reason));
    }
    return joined;
  }

  addEventListener(_, listener) {
    this.#listeners.push(listener);
  }

  removeEventListener(_, listener) {
    this.#listeners = this.#listeners.filter((known) => known !== listener);
  }

  throwIfAborted() {
    if (this.aborted) throw this.reason;
  }

  _abort(reason) {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    for (const listener of [...this.#listeners, this.onabort]) if (typeof listener === "function") listener({ type: "abort", target: this });
  }
}

export class AbortController {
  signal = new AbortSignal();

  abort(reason = abortError()) {
    this.signal._abort(reason);
  }
}

class Aborted extends Error {
  constructor(name, message) {
    super(message);
    this.name = name;
  }
}

const abortError = () => new Aborted("AbortError", "the request was aborted");
export const timeoutError = (ms) => new Aborted("TimeoutError", `no answer within ${ms} ms`);
