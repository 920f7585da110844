// node-celery: protocol 1.

"use strict";

const celery = require("node-celery");
const { calls, run, settings, sum } = require("./common.js");

run(async () => {
  const client = celery.createClient({
    CELERY_BROKER_URL: settings.BROKER,
    CELERY_RESULT_BACKEND: settings.BACKEND,
    CELERY_DEFAULT_QUEUE: settings.QUEUE,
    // Where results go when RabbitMQ keeps them; its own default exists only where Celery 4 has been.
    CELERY_RESULT_EXCHANGE: "amq.direct",
  });
  await new Promise((resolve, reject) => client.on("connect", resolve).on("error", reject));
  const call = (task, args, kwargs, options = {}) => {
    const sent = client.createTask(task).call(args, kwargs, options);
    return new Promise((resolve) => sent.on("ready", resolve));
  };
  const told = ({ status, result }) =>
    status === "SUCCESS" ? ["value", result] : ["error", [status, result.exc_type, result.exc_message]];
  const outcomes = {};
  for (const [name, task, args, kwargs] of calls) {
    outcomes[name] = told(await call(task, args, kwargs));
  }
  const eta = new Date(Date.now() + 1500);
  const [kind, value] = told(await call("tasks.add", [20, 22], {}, { eta }));
  outcomes.eta = [kind, [value, Date.now() >= +eta]];
  outcomes.expired = told(await call("tasks.add", [1, 1], {}, { expires: new Date(Date.now() - 60_000) }));
  outcomes.many = await sum((number) => call("tasks.add", [number, 0], {}).then(({ result }) => result));
  return outcomes;
});
