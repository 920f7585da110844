"""Converts money: a producer as any of Celery's. It knows names of tasks, and nothing of WebAssembly."""

import os

from celery import Celery, chain

app = Celery(
    broker=os.environ.get("CELERY_BROKER_URL", "sqla+sqlite:///host.db"),
    backend=os.environ.get("CELERY_RESULT_BACKEND", "db+sqlite:///host.db"),
)
service = os.environ.get("SERVICE", "http://127.0.0.1:8099")

# One call of another's service, by a task that may call that service alone.
print("100 USD are", app.send_task("rates.convert", [100, "USD", "CHF"]).get(timeout=60), "CHF")

# Its first answer is 503, so the task asks to be run again.
print("100 GBP are", app.send_task("rates.convert", [100], {"currency": "GBP"}).get(timeout=60), "EUR")

# What comes of it is posted to whoever wants to know: a webhook at the end of a chain.
notify = app.signature("webhook.notify", [f"{service}/inbox"])
print("the inbox says", chain(app.signature("rates.report", [["USD", "CHF"]]), notify).apply_async().get(timeout=60))

# Errors are those of the task.
for task, arguments in [("rates.convert", [100, "XXX"]), ("rates.peek", ["http://169.254.169.254/latest/meta-data"])]:
    try:
        app.send_task(task, arguments).get(timeout=60)
    except Exception as error:
        print(f"{task}: {type(error).__name__}: {error}")
