// What became of other tasks, and where to look for it.

import { parse } from "./json.js";

/** Where the result of a call will be: Celery's AsyncResult or GroupResult. A task may return one. */
export class AsyncResult {
  constructor(id, parent = null, children = null) {
    this.id = id;
    this.parent = parent;
    this.children = children;
  }

  /** Reads Celery's `[[id, parent], children]`, or its text. */
  static read(tuple) {
    if (typeof tuple === "string") tuple = parse(tuple);
    const [head, children] = Array.isArray(tuple) && tuple.length === 2 ? tuple : [];
    const [id, parent] = Array.isArray(head) && head.length === 2 ? head : [];
    if (typeof id !== "string") throw new TypeError("not the result of a call: no [[id, parent], children]");
    return new AsyncResult(
      id,
      parent === null ? null : AsyncResult.read(parent),
      Array.isArray(children) ? children.map((child) => AsyncResult.read(child)) : null,
    );
  }

  toJSON() {
    return [[this.id, this.parent?.toJSON() ?? null], this.children?.map((child) => child.toJSON()) ?? null];
  }
}

/** What is known about a task. */
export class TaskResult {
  constructor(text) {
    this.meta = parse(text);
    this.state = this.meta.state;
    /** What it returned; of a failure Celery's map of the exception. */
    this.result = this.meta.result ?? null;
    this.traceback = this.meta.traceback ?? null;
  }

  get isSuccess() {
    return this.state === "SUCCESS";
  }

  get isReady() {
    return ["SUCCESS", "FAILURE", "REVOKED"].includes(this.state);
  }
}
