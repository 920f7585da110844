"""A Python client and worker as far as results are concerned: Celery's own cache backend, told on stdin what to do.

Every command is a JSON list, and is answered by a line of JSON: what was asked for, or a list of what Celery would have
published.
"""
import json
import sys

from celery import Celery
from celery.app.task import Context
from celery.result import AsyncResult, GroupResult

app = Celery(broker='memory://', backend=sys.argv[1])
app.conf.result_backend_transport_options = {'global_keyprefix': sys.argv[2]}
app.conf.result_chord_join_timeout = 3.0
backend = app.backend
published = []
app.amqp._retry_publish = lambda publish, results: published.append(['body', results])
backend.chord_error_from_stack = lambda callback, exc=None: published.append(['error', str(exc)])


@app.task(name='tasks.body')
def body(results):
    pass


def request_of(group, task, index):
    return Context(id=task, group=group, group_index=index, chord=body.s())


for line in sys.stdin:
    command, *given = json.loads(line)
    published.clear()
    answer = published
    if command == 'apply':
        group, members = given
        backend.apply_chord((group, [AsyncResult(id, app=app) for id in members]), body.s())
    elif command == 'end':
        group, task, index, state, value = given
        request = request_of(group, task, index)
        if state == 'FAILURE':
            backend.mark_as_failure(task, ValueError(value), request=request)
        else:
            backend.mark_as_done(task, value, request=request)
    elif command == 'put':
        task, state, value = given
        backend.store_result(task, value, state)
    elif command == 'get':
        result = AsyncResult(given[0], app=app)
        value = result.result
        answer = [result.state, repr(value) if isinstance(value, Exception) else value, result.traceback]
    elif command == 'group':
        restored = GroupResult.restore(given[0], backend=backend)
        answer = None if restored is None else [child.id for child in restored.results]
    print(json.dumps(answer), flush=True)
