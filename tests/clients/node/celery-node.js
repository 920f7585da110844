// celery-node (celery.node): protocol 2, or protocol 1 with PROTOCOL=1.

"use strict";

const celery = require("celery-node");
const { PATIENCE_MS, calls, outcome, run, settings, sum } = require("./common.js");

run(async () => {
  const client = celery.createClient(settings.BROKER, settings.BACKEND, settings.QUEUE);
  client.conf.TASK_PROTOCOL = Number(settings.PROTOCOL ?? 2);
  await client.isReady();
  const call = (task, args, kwargs, interval) => client.createTask(task).applyAsync(args, kwargs).get(PATIENCE_MS, interval);
  const describe = (error) => [error.message, error.exc_type, error.exc_message];
  const outcomes = {};
  for (const [name, task, args, kwargs] of calls) {
    outcomes[name] = await outcome(call(task, args, kwargs, 20), describe);
  }
  outcomes.many = await sum((number) => call("tasks.add", [number, 0], {}));
  return outcomes;
});
