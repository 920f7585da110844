"""A Python worker as far as chords are concerned: Celery's own Redis backend, told on stdin what comes in.

Every command is a JSON list, and is answered by a line: a JSON list of what Celery would have published.
"""
import json
import sys

from celery import Celery
from celery.app.task import Context
from celery.result import GroupResult

app = Celery(broker='memory://', backend=sys.argv[1])
app.conf.result_backend_transport_options = {'global_keyprefix': sys.argv[2]}
app.conf.result_chord_join_timeout = 3.0
if len(sys.argv) > 3:
    app.conf.result_backend_transport_options['result_chord_ordered'] = False
backend = app.backend
published = []
app.amqp._retry_publish = lambda publish, results: published.append(['body', results])
backend.chord_error_from_stack = lambda callback, exc=None: published.append(['error', str(exc)])


@app.task(name='tasks.body')
def body(results):
    pass


class Boom(Exception):
    pass


for line in sys.stdin:
    command, *given = json.loads(line)
    published.clear()
    if command == 'size':
        backend.set_chord_size(*given)
    elif command == 'part':
        group, task, index, state, value = given
        request = Context(id=task, group=group, group_index=index, chord=body.s())
        backend.on_chord_part_return(request, state, Boom(value) if state == 'FAILURE' else value)
    elif command == 'extend':
        backend.add_to_chord(given[0], None)
    elif command == 'restore':
        restored = GroupResult.restore(given[0], app=app)
        published.append(restored and restored.as_tuple())
    elif command == 'save':
        GroupResult(given[0], [app.AsyncResult(given[1])]).save(backend=backend)
    print(json.dumps(published), flush=True)
