// What the programs for each client have in common: the calls that all of them make, and how their ends are told.
//
// Told where to go by BROKER, BACKEND and QUEUE. Prints one line of JSON: for each call its name and how it ended.

"use strict";

const PATIENCE_MS = 80_000;
/** How many calls there are at the same time in the last one. */
const MANY = 1000;

exports.settings = process.env;
exports.PATIENCE_MS = PATIENCE_MS;

/** Name, task, positional and keyword arguments. */
exports.calls = [
  ["positional", "tasks.add", [2, 3], {}],
  ["keyword", "tasks.add", [], { x: 40, y: 2 }],
  ["large", "tasks.add", [Number.MAX_SAFE_INTEGER - 1, 1], {}],
  ["unicode", "tasks.echo", ["naïve ☃ 🦀"], {}],
  ["nested", "tasks.echo", [{ list: [1, null, true, 2.5], empty: {} }], {}],
  ["retried", "tasks.flaky", [1], {}],
  ["failure", "tasks.fail", ["no luck"], {}],
  ["unknown", "tasks.missing", [], {}],
];

exports.delay = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What a promise comes to: a value, or the error that the client makes of a failure. */
exports.outcome = async (promise, describe) => {
  try {
    return ["value", await promise];
  } catch (error) {
    return ["error", describe(error)];
  }
};

/** Adds numbers by as many tasks, all of them at the same time; what is lost is missing in the sum. */
exports.sum = async (add) => {
  const sums = await Promise.all(Array.from({ length: MANY }, (_, index) => add(index)));
  return ["value", sums.reduce((total, each) => total + each, 0)];
};

/** Runs a program to its end, which must come. */
exports.run = (main) => {
  const late = setTimeout(() => fail(new Error(`not done after ${PATIENCE_MS} ms`)), PATIENCE_MS);
  const fail = (error) => {
    console.error(error);
    process.exit(1);
  };
  process.on("unhandledRejection", fail);
  main().then((outcomes) => {
    clearTimeout(late);
    console.log(JSON.stringify(outcomes));
    // Some clients have timers that nobody can stop.
    process.exit(0);
  }, fail);
};
