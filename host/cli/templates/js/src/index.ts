// Tasks of the plugin {{name}}.

import { Retry, TaskError, context, task } from "taskhost";

/** Arguments are checked against these types: a client that gives others gets a TypeError. */
export const add = task(
  { name: "{{name}}.add", summary: "Adds two numbers.", timeLimit: 30 },
  (x: number, y: number) => x + y,
);

export const letters = task(
  {
    name: "{{name}}.letters",
    summary: "Counts the letters of words, and says after each how far it is.",
    maxRetries: 3,
  },
  (words: string[]) => {
    if (words.length === 0) {
      throw new Retry({ countdown: 1, cause: new TaskError("ValueError", "no words") });
    }
    let letters = 0;
    words.forEach((word, index) => {
      letters += [...word].length;
      context().progress(index + 1, words.length);
    });
    return letters;
  },
);
