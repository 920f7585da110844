"""A program as it may be anywhere in your company: it knows Celery, a broker, and the name of a task."""

from celery import Celery

app = Celery(broker="sqla+sqlite:///host.db", backend="db+sqlite:///host.db")

for thumbnail in app.send_task("thumbnails.album", kwargs={"width": 200, "height": 200}).get(timeout=60):
    print("{file}: {width} x {height}, {bytes} bytes".format(**thumbnail))

try:
    app.send_task("thumbnails.make", ("../host.toml",)).get(timeout=60)
except ValueError as error:
    print("refused:", error)
