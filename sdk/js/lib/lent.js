// What the operator lends to a plugin: settings, secrets, variables and buckets.

import { borrowing, keeping, Denied } from "./errors.js";
import { host } from "./host.js";

/** The value of a setting, declared under `config` in `[needs]`. */
export function config(key) {
  const value = borrowing(() => host().config(key));
  if (value === null || value === undefined) throw new Denied(`config \`${key}\` has no value`);
  return value;
}

/** A secret, declared under `secrets` in `[needs]`. It never shows in the log. */
export const secret = (name) => borrowing(() => host().secret(name));

/** The environment variables that the plugin was granted. */
export const environment = () => Object.fromEntries(host().environment());

/** Does nothing for so many milliseconds. */
export const sleep = (ms) => host().sleep(Math.max(0, ms) / 1000);

/** Values that a plugin keeps from one task to the next, declared under `keyvalue` in `[needs]`. Values are bytes. */
export class Bucket {
  #bucket;

  constructor(bucket) {
    this.#bucket = bucket;
  }

  static open(name) {
    return new Bucket(keeping(() => host().bucket(name)));
  }

  /** The bytes under a key, or nothing. */
  get(key) {
    return keeping(() => this.#bucket.get(key)) ?? undefined;
  }

  /** The same as text. */
  getText(key) {
    const bytes = this.get(key);
    return bytes === undefined ? undefined : new TextDecoder().decode(bytes);
  }

  /** Puts bytes, or a text as UTF-8, under a key. */
  set(key, value) {
    keeping(() => this.#bucket.set(key, bytes(value)));
  }

  delete(key) {
    keeping(() => this.#bucket.delete(key));
  }

  exists(key) {
    return keeping(() => this.#bucket.exists(key));
  }

  /** All keys, in no order. */
  keys() {
    return keeping(() => {
      const keys = new Set();
      let cursor = null;
      do {
        const page = this.#bucket.listKeys(cursor);
        for (const key of page.keys) keys.add(key);
        cursor = page.cursor ?? null;
      } while (cursor !== null);
      return [...keys].sort();
    });
  }

  /** Adds to the number under a key, which is zero if there is none, and gives the sum. In one step. */
  increment(key, delta = 1) {
    if (!Number.isSafeInteger(delta)) throw new TypeError("increment() takes a whole number");
    return keeping(() => this.#bucket.increment(key, delta));
  }

  /**
   * Puts what `change` makes of a value in its place. If somebody else was faster, it is asked again with what he left;
   * if it gives nothing, nothing is done and false is returned.
   */
  update(key, change) {
    let cas = keeping(() => this.#bucket.cas(key));
    for (;;) {
      const value = change(keeping(() => cas.current()) ?? undefined);
      if (value === undefined || value === null) return false;
      const changed = keeping(() => this.#bucket.swap(cas, bytes(value)));
      if (changed === undefined) return true;
      cas = changed;
    }
  }
}

function bytes(value) {
  if (typeof value === "string") return new TextEncoder().encode(value);
  if (value instanceof Uint8Array) return value;
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  throw new TypeError("a bucket keeps bytes: a Uint8Array, or a text");
}
