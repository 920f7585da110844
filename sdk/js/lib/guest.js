// The component: gives the SDK its host, and exports what the host calls.

import atomics from "wasi:keyvalue/atomics@0.2.0-draft2";
import configuration from "wasi:config/store@0.2.0-draft";
import logging from "wasi:logging/logging@0.1.0-draft";
import values from "wasi:keyvalue/store@0.2.0-draft2";
import environment from "wasi:cli/environment@0.2.0";
import monotonic from "wqjs:clocks/monotonic-clock@0.2.6";
import wire from "taskhost:task/context@0.1.0";
import publish from "taskhost:task/publish@0.1.0";
import results from "taskhost:task/results@0.1.0";
import secrets from "taskhost:task/secrets@0.1.0";

import { Context, serve } from "./context.js";
import { failure } from "./failure.js";
import { abandon, fetchSync } from "./fetch.js";
import { begin } from "./globals.js";
import { setHost } from "./host.js";
import { write } from "./json.js";
import { neglected, settle } from "./loop.js";
import { tasks as declared } from "./task.js";
import { Places } from "./traceback.js";

setHost({
  request: () => wire.request(),
  cancelled: () => wire.cancelled(),
  remainingMs: () => wire.remainingMs(),
  updateState: (state, meta) => wire.updateState(state, meta),
  sendEvent: (kind, fields) => wire.sendEvent(kind, fields),
  log: (level, context, message) => logging.log(level, context, message),
  send: (signature) => publish.send(signature),
  immediately: (signature) => publish.immediately(signature),
  apply: (signature, args, kwargs, now) => publish.apply(signature, args, kwargs, now),
  addToChord: (signature, now) => publish.addToChord(signature, now),
  result: (id) => results.get(id),
  wait: (id, ms) => results.wait(id, ms),
  config: (key) => configuration.get(key),
  secret: (name) => secrets.get(name),
  environment: () => environment.getEnvironment(),
  fetchSync,
  sleep(seconds) {
    const pollable = monotonic.subscribeDuration(Math.ceil(seconds * 1e9));
    pollable.block();
    pollable[Symbol.dispose]();
  },
  bucket(name) {
    const bucket = values.open(name);
    return {
      get: (key) => bucket.get(key),
      set: (key, value) => bucket.set(key, value),
      delete: (key) => bucket.delete(key),
      exists: (key) => bucket.exists(key),
      listKeys: (cursor) => bucket.listKeys(cursor),
      increment: (key, delta) => atomics.increment(bucket, key, delta),
      cas: (key) => atomics.Cas.new(bucket, key),
      swap(cas, value) {
        try {
          atomics.swap(cas, value);
        } catch (error) {
          const refusal = error?.payload;
          if (refusal?.tag === "cas-failed") return refusal.val;
          if (refusal?.tag === "store-error") error.payload = refusal.val;
          throw error;
        }
      },
    };
  },
});

/** What the component exports as `tasks`, once the user's module has been evaluated. */
export function plugin(exported, name, map) {
  const places = map === undefined ? undefined : new Places(map);
  for (const [key, value] of Object.entries(exported)) {
    const definition = typeof value === "function" ? value.definition : undefined;
    if (definition !== undefined) definition.name ??= `${name}.${key === "default" ? definition.fn.name || "default" : key}`;
  }
  const known = new Map();
  for (const definition of declared()) {
    definition.name ??= definition.fn.name ? `${name}.${definition.fn.name}` : undefined;
    if (definition.name === undefined) {
      throw new Error('taskhost: a task has no name: export it, or give it one: task({ name: "tasks.add" }, ..)');
    }
    if (known.has(definition.name)) throw new Error(`taskhost: two tasks of this plugin are called ${definition.name}`);
    known.set(definition.name, definition);
  }
  if (known.size === 0) {
    throw new Error('taskhost: the module declares no task: export const add = task({ name: "tasks.add" }, (x: number, y: number) => x + y)');
  }
  const told = [...known.values()].map((definition) => ({
    name: definition.name,
    summary: definition.summary,
    schema: write(definition.schema()),
    options: definition.options.map(([option, value]) => [option, write(value)]),
  }));
  return {
    describe() {
      begin();
      return told;
    },
    run(call) {
      begin();
      const definition = known.get(call.task);
      try {
        if (definition === undefined) throw failure.unknown(call.task);
        serve(new Context(call));
        let value = definition.fn(...definition.bind(call.args, call.kwargs));
        if (typeof value?.then === "function") value = settle(value);
        for (const reason of neglected()) console.error("a promise was rejected, and nobody looked at it:", reason);
        return write(value);
      } catch (error) {
        throw failure(error, places, definition?.function ?? "run");
      } finally {
        abandon();
        serve(undefined);
      }
    },
  };
}
