// The seam between the SDK and what runs it: the host's imports in a component, a test's double, or nothing.

import { Denied, BucketError, HttpError, PublishUnavailable, ResultUnavailable } from "./errors.js";

const outside = (what) => `${what} by a host, and this is none`;

/** What there is without a host: nothing is cancelled, time has no end, and states go nowhere. */
export const NO_HOST = {
  request: () => "{}",
  cancelled: () => false,
  remainingMs: () => Infinity,
  updateState() {},
  sendEvent() {},
  log: undefined,
  send() {
    throw new PublishUnavailable(outside("tasks are published"));
  },
  immediately() {
    throw new PublishUnavailable(outside("tasks are published"));
  },
  apply() {
    throw new PublishUnavailable(outside("tasks are published"));
  },
  addToChord() {
    throw new PublishUnavailable(outside("tasks are published"));
  },
  result() {
    throw new ResultUnavailable(outside("results are kept"));
  },
  wait() {
    throw new ResultUnavailable(outside("results are kept"));
  },
  config(key) {
    throw new Denied(outside(`config \`${key}\` is lent`));
  },
  secret(name) {
    throw new Denied(outside(`secret \`${name}\` is lent`));
  },
  environment: () => Object.entries(globalThis.process?.env ?? {}),
  bucket(name) {
    throw new BucketError(outside(`bucket \`${name}\` is kept`));
  },
  sleep(seconds) {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000);
  },
  fetchSync() {
    throw new HttpError(outside("requests are sent"), "no-host");
  },
};

let current = NO_HOST;

export const host = () => current;

/** Gives the SDK another host, and returns the one before. */
export function setHost(next) {
  const before = current;
  current = next;
  return before;
}
