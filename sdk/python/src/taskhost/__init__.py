"""Write Taskhost tasks in Python: plain functions that any Celery client calls by name.

    from taskhost import Context, task

    @task(name="tasks.add", time_limit=30)
    def add(x: int, y: int) -> int:
        "Adds two numbers."
        return x + y

``host plugin build`` makes a component of the module. Names are Celery's wherever Celery has the thing; see ``task`` for
options and parameters, ``Context`` for what a task may know about its call, ``Signature`` for calls of other tasks.
"""

from ._canvas import Signature, chain, chord, chunks, group, signature, xmap, xstarmap
from ._context import Context, Request, current_context
from ._errors import (
    BucketError,
    Denied,
    EventError,
    EventInvalid,
    EventLimited,
    HostError,
    Ignore,
    NotRegistered,
    PublishDenied,
    PublishError,
    PublishInvalid,
    PublishLimited,
    PublishUnavailable,
    Reject,
    Replace,
    ResultCancelled,
    ResultDenied,
    ResultError,
    ResultInvalid,
    ResultTimedOut,
    ResultUnavailable,
    ResultUnpublished,
    Retry,
    TaskError,
    UpdateError,
    UpdateInvalid,
    UpdateLimited,
    UpdateUnavailable,
)
from ._json import Json
from ._lent import Bucket, config, secret
from ._results import AsyncResult, TaskResult
from ._task import Task, shared_task, task

__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "Bucket",
    "BucketError",
    "Context",
    "Denied",
    "EventError",
    "EventInvalid",
    "EventLimited",
    "HostError",
    "Ignore",
    "Json",
    "NotRegistered",
    "PublishDenied",
    "PublishError",
    "PublishInvalid",
    "PublishLimited",
    "PublishUnavailable",
    "Reject",
    "Replace",
    "Request",
    "ResultCancelled",
    "ResultDenied",
    "ResultError",
    "ResultInvalid",
    "ResultTimedOut",
    "ResultUnavailable",
    "ResultUnpublished",
    "Retry",
    "Signature",
    "Task",
    "TaskError",
    "TaskResult",
    "UpdateError",
    "UpdateInvalid",
    "UpdateLimited",
    "UpdateUnavailable",
    "chain",
    "chord",
    "chunks",
    "config",
    "current_context",
    "group",
    "secret",
    "shared_task",
    "signature",
    "task",
    "xmap",
    "xstarmap",
]
