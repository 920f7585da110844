// Searches by regular expressions that somebody else has written.

import { TaskError, task } from "taskhost";

interface Match {
  line: number;
  text: string;
}

/** The lines in which the pattern is found, the first of them only. */
export const search = task({ summary: "The lines of a text in which a regular expression is found." }, (pattern: string, text: string, limit = 100): Match[] => {
  const expression = compile(pattern);
  const matches: Match[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (matches.length === limit) break;
    const found = expression.exec(line);
    if (found) matches.push({ line: index + 1, text: found[0] });
  }
  return matches;
});

function compile(pattern: string): RegExp {
  try {
    return new RegExp(pattern, "u");
  } catch (error) {
    throw new TaskError("ValueError", (error as Error).message);
  }
}
