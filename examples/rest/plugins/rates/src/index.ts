// Money in other currencies, by the rates of a service.

import { HttpError, Retry, TaskError, config, context, task } from "taskhost";

const RETRIES = { maxRetries: 4, timeLimit: 30 };

/** Both rates are asked for at the same time. */
export const convert = task({ ...RETRIES, summary: "Converts an amount." }, async (amount: number, currency: string, to = "EUR") => {
  const [from, into] = await Promise.all([euros(currency), euros(to)]);
  return Math.round((amount * from * 100) / into) / 100;
});

/** Asks for many, and says how far it is. */
export const report = task({ ...RETRIES, summary: "The rates of currencies, by their names." }, async (currencies: string[]) => {
  const rates: Record<string, number> = {};
  for (const [index, currency] of currencies.entries()) {
    rates[currency] = await euros(currency);
    context().progress(index + 1, currencies.length);
  }
  return rates;
});

/** Whatever the code asks for, only what is granted is called. */
export const peek = task(async (url: string) => (await (await fetch(url)).text()).slice(0, 100));

async function euros(currency: string): Promise<number> {
  if (currency === "EUR") return 1;
  const url = `${config("service")}/rates/${encodeURIComponent(currency)}`;
  let response: Response;
  try {
    response = await fetch(url, { timeout: 5000, maxBytes: 10_000 });
  } catch (error) {
    if (error instanceof HttpError && error.code.startsWith("connection-")) throw later(error);
    throw error;
  }
  if (response.status === 404) throw new TaskError("KeyError", currency);
  if (response.status >= 500) throw later(new TaskError("ConnectionError", `${url} answered ${response.status}`));
  const { euros } = await response.json();
  if (typeof euros !== "number") throw new TaskError("ValueError", `${url} says no number`);
  return euros;
}

const later = (cause: Error) => new Retry({ countdown: 2 ** context().retries / 2, cause });
