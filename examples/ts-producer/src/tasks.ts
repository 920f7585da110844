// Calls of tasks, with types: what celery-node leaves to its users.

import { createClient } from "celery-node";

/** What a failed task leaves as its result. */
interface Exception {
  exc_type: string;
  exc_message: unknown[];
}

/** The task ran and failed, or nobody knows it. */
export class Failed extends Error {
  constructor(readonly kind: string, args: unknown[]) {
    super(`${kind}: ${args.join(", ")}`);
  }
}

export class Tasks {
  private readonly client;

  constructor(broker: string, backend: string, queue: string) {
    this.client = createClient(broker, backend, queue);
  }

  /** Settles when broker and results are connected. */
  async ready(): Promise<void> {
    await this.client.isReady();
  }

  /** Runs a task and waits for its value. */
  async call<T>(name: string, args: unknown[], kwargs: object, patienceMs: number): Promise<T> {
    const result = this.client.createTask(name).applyAsync(args, kwargs);
    try {
      return (await result.get(patienceMs, 50)) as T;
    } catch (error) {
      const { exc_type, exc_message } = error as Exception;
      throw exc_type === undefined ? error : new Failed(exc_type, exc_message);
    }
  }
}
