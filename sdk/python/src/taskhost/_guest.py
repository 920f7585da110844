"""The two functions that a plugin exports, over the tasks that were declared.

Knows nothing of components: what it takes and gives is plain, and so a unit test can call it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping

from . import _context, _failure
from ._context import Context
from ._errors import NotRegistered
from ._failure import End
from ._json import dumps
from ._task import Task

__all__ = ["described", "run"]


def described(tasks: Mapping[str, Task]) -> Iterator[tuple[str, Task, str, list[tuple[str, str]]]]:
    """Each task with its schema, and its options with their values as JSON."""
    for name, task in tasks.items():
        yield name, task, dumps(task.schema()), [(option, dumps(value)) for option, value in task.options.items()]


def run(tasks: Mapping[str, Task], id: str, name: str, args: str, kwargs: str, retries: int) -> str | End:
    """Runs a task: its result as JSON, or how else it ended."""
    context = Context(id, name, retries, args, kwargs)
    _context.enter(context)
    try:
        task = tasks.get(name)
        if task is None:
            raise NotRegistered(name)
        return task.serve(context, args, kwargs)
    except BaseException as error:
        return _failure.ended(error)
    finally:
        _context.enter(None)
        # What was printed without an end of line belongs to this task.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                pass  # the task has closed it
