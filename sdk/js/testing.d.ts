import type { JsonValue, Signature } from "./index.js";

/** A host for unit tests: records what a task says and sends, and gives the answers that a test wants. */
export class Recorder {
  constructor(lent?: {
    config?: Record<string, string>;
    secrets?: Record<string, string>;
    /** What other tasks have returned, by id. */
    results?: Record<string, unknown>;
    /** What servers answer to `request()`. */
    answers?: (url: string, init: { method?: string; headers?: unknown; body?: unknown }) => {
      status?: number;
      headers?: Record<string, string>;
      text?: string;
      bytes?: Uint8Array;
    };
  });
  readonly states: [string, JsonValue][];
  readonly events: [string, JsonValue][];
  readonly lines: [string, string][];
  /** What is published if the task succeeds. */
  readonly published: Signature[];
  readonly publishedNow: Signature[];
  isCancelled: boolean;
  /** Seconds. */
  remaining: number;
  /** Runs a task, or any function, with this host and a context. */
  run<T>(fn: () => T, call?: { id?: string; task?: string; retries?: number; request?: { [name: string]: JsonValue } }): T;
}
