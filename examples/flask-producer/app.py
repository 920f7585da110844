"""A web application whose users upload tables, which a sandboxed task reads.

The application is an ordinary Celery client. It does not know that its task is written in Rust, and it never looks into what was
uploaded: a table that is broken, or made to do harm, is the sandbox's affair.
"""

import os

from celery import Celery
from flask import Flask, jsonify, render_template, request, url_for

HERE = os.path.dirname(os.path.abspath(__file__))

celery = Celery(
    "app",
    broker=os.environ.get("CELERY_BROKER_URL", f"sqla+sqlite:///{HERE}/host.db"),
    backend=os.environ.get("CELERY_RESULT_BACKEND", f"db+sqlite:///{HERE}/host.db"),
)
celery.conf.task_default_queue = "tables"

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1 << 20


@app.get("/")
def index():
    return render_template("index.html")


@app.post("/tables")
def upload():
    """Takes a table, as a form's file or as the body, and answers where its summary will be."""
    if request.mimetype == "multipart/form-data":
        file = request.files.get("table")
        if file is None:
            return jsonify(error="the form has no file called table"), 400
        content = file.read()
    else:
        content = request.get_data()
    try:
        table = content.decode()
    except UnicodeDecodeError:
        return jsonify(error="the table is not UTF-8"), 400
    result = celery.send_task("tables.summarise", args=[table], expires=600)
    location = url_for("summary", task_id=result.id)
    return jsonify(id=result.id, location=location), 202, {"Location": location}


@app.get("/tables/<uuid:task_id>")
def summary(task_id):
    """Tells how far it is, or what became of it."""
    result = celery.AsyncResult(str(task_id))
    state, info = result.state, result.info
    answer = {"state": state}
    if state == "PROGRESS":
        answer["progress"] = info
    elif state == "SUCCESS":
        answer["summary"] = info
    elif state == "FAILURE":
        # The exception that the task raised, or the limit that it ran into.
        answer["error"] = f"{type(info).__name__}: {info}"
    return jsonify(answer)
