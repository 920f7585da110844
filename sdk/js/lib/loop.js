// Promises, timers and waiting, for an engine whose own job queue nobody empties: a component without component-model
// async returns from a call for good. The build turns async functions into generators over this Promise.

const jobs = [];
let head = 0;
let waits = []; // { pollable, wake }
let timers = new Map(); // by id: { due, callback, every }
let lastTimer = 0;
let unhandled = new Set();

/** Now, in nanoseconds, and how to wait; given by the component. */
let clock;

export function setClock(given) {
  clock = given;
}

export function queueMicrotask(job) {
  if (typeof job !== "function") throw new TypeError("queueMicrotask() takes a function");
  jobs.push(job);
}

/** Forgets what an earlier call has left behind. */
export function reset() {
  jobs.length = 0;
  head = 0;
  waits = [];
  timers = new Map();
  unhandled = new Set();
}

/** Calls once a pollable is ready, unless that is cancelled before. Others go on meanwhile. */
export function waitFor(pollable) {
  const wait = { pollable, wake: undefined };
  waits.push(wait);
  return {
    then: (wake) => void (wait.wake = wake),
    cancel() {
      const before = waits.length;
      waits = waits.filter((other) => other !== wait);
      return waits.length < before;
    },
  };
}

function drain() {
  while (head < jobs.length) {
    const job = jobs[head];
    head += 1;
    if (head === 1024) {
      jobs.splice(0, head);
      head = 0;
    }
    job();
  }
  jobs.length = 0;
  head = 0;
}

/** Runs until a promise has settled, and gives its value or throws its reason. */
export function settle(promise) {
  let state = "pending";
  let outcome;
  promise.then(
    (value) => ([state, outcome] = ["fulfilled", value]),
    (reason) => ([state, outcome] = ["rejected", reason]),
  );
  for (;;) {
    drain();
    if (state === "fulfilled") return outcome;
    if (state === "rejected") throw outcome;
    if (!turn()) {
      throw new Error("the promise that the task has returned never settles: nothing is left that could settle it (no timer, no request)");
    }
  }
}

/** Reasons of promises that nobody has looked at. */
export function neglected() {
  return [...unhandled].map((promise) => promise.reasonOfRejection);
}

/** Waits for the next thing to happen; false if there is nothing to wait for. */
function turn() {
  let first;
  for (const [id, timer] of timers) if (first === undefined || timer.due < first.timer.due) first = { id, timer };
  const remaining = first === undefined ? 0 : first.timer.due - clock.now();
  if (first !== undefined && remaining <= 0) return fire(first);
  if (first === undefined && waits.length === 0) return false;
  const alarm = first === undefined ? undefined : clock.subscribe(remaining);
  const ready = new Set(clock.poll(waits.map(({ pollable }) => pollable).concat(alarm ?? [])));
  const woken = waits.filter((_, index) => ready.has(index));
  // The host cuts the sleep short that lasts when the task is to come to an end.
  const rings = alarm !== undefined && ready.has(waits.length);
  waits = waits.filter((_, index) => !ready.has(index));
  alarm?.[Symbol.dispose]();
  for (const { wake } of woken) wake();
  if (rings) fire(first);
  return true;
}

function fire({ id, timer }) {
  if (timer.every === undefined) timers.delete(id);
  else timer.due = clock.now() + timer.every;
  timer.callback();
  return true;
}

function start(callback, delay, args, repeats) {
  if (typeof callback !== "function") throw new TypeError("a timer takes a function");
  const nanoseconds = Math.max(0, Number(delay) || 0) * 1e6;
  lastTimer += 1;
  const every = repeats ? Math.max(nanoseconds, 1e6) : undefined;
  timers.set(lastTimer, { due: clock.now() + nanoseconds, callback: () => callback(...args), every });
  return lastTimer;
}

export const setTimeout = (callback, delay, ...args) => start(callback, delay, args, false);
export const setInterval = (callback, delay, ...args) => start(callback, delay, args, true);
export const setImmediate = (callback, ...args) => start(callback, 0, args, false);
export const clearTimeout = (id) => void timers.delete(id);

function resolving(promise) {
  let called = false;
  const once = (act) => (value) => {
    if (called) return;
    called = true;
    act(value);
  };
  return { resolve: once((value) => promise._follow(value)), reject: once((reason) => promise._become("rejected", reason)) };
}

export class Promise {
  #state = "pending";
  #value;
  #reactions = [];

  constructor(executor) {
    if (typeof executor !== "function") throw new TypeError("Promise resolver is not a function");
    const { resolve, reject } = resolving(this);
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  get reasonOfRejection() {
    return this.#value;
  }

  _become(state, value) {
    this.#state = state;
    this.#value = value;
    if (state === "rejected" && this.#reactions.length === 0) unhandled.add(this);
    for (const reaction of this.#reactions) jobs.push(reaction);
    this.#reactions = [];
  }

  _follow(value) {
    if (value === this) return this._become("rejected", new TypeError("a promise cannot follow itself"));
    if (value === null || (typeof value !== "object" && typeof value !== "function")) return this._become("fulfilled", value);
    let then;
    try {
      then = value.then;
    } catch (error) {
      return this._become("rejected", error);
    }
    if (typeof then !== "function") return this._become("fulfilled", value);
    jobs.push(() => {
      const { resolve, reject } = resolving(this);
      try {
        then.call(value, resolve, reject);
      } catch (error) {
        reject(error);
      }
    });
  }

  then(onFulfilled, onRejected) {
    const next = Promise.withResolvers.call(this.constructor === undefined ? Promise : this.constructor);
    const react = () => {
      const handler = this.#state === "fulfilled" ? onFulfilled : onRejected;
      if (typeof handler !== "function") return this.#state === "fulfilled" ? next.resolve(this.#value) : next.reject(this.#value);
      let value;
      try {
        value = handler(this.#value);
      } catch (error) {
        return next.reject(error);
      }
      next.resolve(value);
    };
    if (this.#state === "pending") this.#reactions.push(react);
    else {
      unhandled.delete(this);
      jobs.push(react);
    }
    return next.promise;
  }

  catch(onRejected) {
    return this.then(undefined, onRejected);
  }

  finally(act) {
    if (typeof act !== "function") return this.then(act, act);
    return this.then(
      (value) => Promise.resolve(act()).then(() => value),
      (reason) =>
        Promise.resolve(act()).then(() => {
          throw reason;
        }),
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }

  static withResolvers() {
    const made = {};
    made.promise = new this((resolve, reject) => Object.assign(made, { resolve, reject }));
    return made;
  }

  static resolve(value) {
    return value instanceof Promise && value.constructor === this ? value : new this((resolve) => resolve(value));
  }

  static reject(reason) {
    return new this((_, reject) => reject(reason));
  }

  static try(act, ...args) {
    return new this((resolve) => resolve(act(...args)));
  }

  static all(promises) {
    return gather(this, promises, (values, index, resolve, reject) => [(value) => resolve(value), reject]);
  }

  static allSettled(promises) {
    return gather(this, promises, (values, index, resolve) => [
      (value) => resolve({ status: "fulfilled", value }),
      (reason) => resolve({ status: "rejected", reason }),
    ]);
  }

  static race(promises) {
    return new this((resolve, reject) => {
      for (const promise of promises) this.resolve(promise).then(resolve, reject);
    });
  }

  static any(promises) {
    return new this((resolve, reject) => {
      const errors = [];
      let left = 0;
      for (const promise of promises) {
        const index = left;
        left += 1;
        this.resolve(promise).then(resolve, (reason) => {
          errors[index] = reason;
          left -= 1;
          if (left === 0) reject(new AggregateError(errors, "All promises were rejected"));
        });
      }
      if (left === 0) reject(new AggregateError(errors, "All promises were rejected"));
    });
  }
}

function gather(type, promises, handlers) {
  return new type((resolve, reject) => {
    const values = [];
    let left = 0;
    for (const promise of promises) {
      const index = left;
      left += 1;
      const fill = (value) => {
        values[index] = value;
        left -= 1;
        if (left === 0) resolve(values);
      };
      type.resolve(promise).then(...handlers(values, index, fill, reject));
    }
    if (left === 0) resolve(values);
  });
}
