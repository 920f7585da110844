"""What is to run when, for stock `celery beat`: the schedule of your Celery app, as it is."""

from celery import Celery
from celery.schedules import crontab

app = Celery("schedule", broker="sqla+sqlite:///host.db", backend="db+sqlite:///host.db")
app.conf.beat_schedule = {
    "count visitors every second": {
        "task": "visitors.sample",
        "schedule": 1.0,
        "args": ("door",),
        # Not one after the other for all the time that no worker was there.
        "options": {"expires": 10},
    },
    "report every night": {
        "task": "visitors.report",
        "schedule": crontab(hour=3, minute=30),
        "args": ("door",),
    },
}
