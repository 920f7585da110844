// celery-ts: protocol 2, results from Redis or as rpc replies.

"use strict";

const Celery = require("celery-ts");
const { PATIENCE_MS, calls, delay, outcome, run, settings, sum } = require("./common.js");

run(async () => {
  const resultBackend = settings.BACKEND;
  const client = Celery.createClient({ brokerUrl: settings.BROKER, resultBackend });
  // The backend listens once it is connected, and does not say so.
  await delay(1000);
  const call = (task, args, kwargs, options = {}) =>
    client.createTask(task).applyAsync({ args, kwargs, queue: settings.QUEUE, ...options }).get(PATIENCE_MS);
  const outcomes = {};
  for (const [name, task, args, kwargs] of calls) {
    outcomes[name] = await outcome(call(task, args, kwargs), String);
  }
  // TypeScript asks for both; what JavaScript leaves out is sent as null.
  outcomes.omitted = await outcome(call("tasks.echo", ["alone"], undefined), String);
  outcomes.gzip = await outcome(call("tasks.echo", ["packed ☃"], {}, { compression: "gzip" }), String);
  outcomes.zlib = await outcome(call("tasks.echo", ["packed ☃"], {}, { compression: "zlib" }), String);
  outcomes.yaml = await outcome(call("tasks.echo", ["written ☃"], {}, { serializer: "yaml" }), String);
  const sent = Date.now();
  const eta = new Date(sent + 1500);
  outcomes.eta = await outcome(call("tasks.add", [20, 22], {}, { eta }).then((sum) => [sum, Date.now() >= +eta]), String);
  const expires = new Date(sent - 60_000);
  outcomes.expired = await outcome(call("tasks.add", [1, 1], {}, { expires }), String);
  outcomes.many = await sum((number) => call("tasks.add", [number, 0], {}));
  return outcomes;
});
