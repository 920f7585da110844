"""Draws the words that a text leans on, by a chain of tasks in four languages.

An ordinary Celery client: it knows the names of tasks, and not what they are written in.
"""

import base64
import gzip
import hashlib
import os
import sys

from celery import Celery, chain

HERE = os.path.dirname(os.path.abspath(__file__))

app = Celery(
    "report",
    broker=os.environ.get("CELERY_BROKER_URL", f"sqla+sqlite:///{HERE}/host.db"),
    backend=os.environ.get("CELERY_RESULT_BACKEND", f"db+sqlite:///{HERE}/host.db"),
)
app.conf.task_default_queue = "reports"


def report(text):
    return chain(
        app.signature("words.split", (text,)),
        app.signature("counts.most", (8,)),
        app.signature("chart.bars", ("The words of the text",)),
        app.signature("pack.gzip"),
    )


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else __file__
    with open(path, encoding="utf-8") as file:
        text = file.read()
    packed = report(text).apply_async().get(timeout=60, interval=0.05)
    content = base64.b64decode(packed["data"])
    if hashlib.sha256(content).hexdigest() != packed["sha256"]:
        sys.exit("it was damaged on its way")
    drawing = gzip.decompress(content).decode()
    with open("report.svg", "w", encoding="utf-8") as file:
        file.write(drawing)
    bars = drawing.count("<rect")
    print(f"report.svg: {bars} bars, {-(-len(content) // 1024)} KiB packed, sha256 {packed['sha256']}")


if __name__ == "__main__":
    main()
