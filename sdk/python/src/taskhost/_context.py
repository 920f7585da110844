"""What a task may know about the call that it serves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ._errors import UpdateError
from ._host import host
from ._json import dumps, loads

if TYPE_CHECKING:
    from ._results import AsyncResult, TaskResult

__all__ = ["Context", "Request", "current_context"]


class Context:
    """The call that a task serves. A parameter that is annotated with it is not one of the task's arguments.

    Outside of a host, as in a unit test, the request is empty, nothing is cancelled and time has no end; see
    ``taskhost.testing`` for a host that records what a task does.
    """

    def __init__(
        self, id: str = "", task: str = "", retries: int = 0, args: str = "[]", kwargs: str = "{}"
    ) -> None:
        self.id = id
        """The task id that the client chose."""
        self.task = task
        """The name of the task."""
        self.retries = retries
        """How often this task was retried before."""
        self._given = (args, kwargs)
        self._request: Request | None = None

    @property
    def request(self) -> Request:
        """All facts about this execution under Celery's names. Fetched from the host when first asked for, and kept."""
        if self._request is None:
            self._request = Request(self)
        return self._request

    def cancelled(self) -> bool:
        """True once the task should come to an end: its soft time limit has passed, it was revoked, or the worker is stopping
        at once. Only a task with the option ``handles_soft_limit`` gets to see it. It then has until its hard time limit, in
        the other cases some seconds. However it ends by then counts; one that wants to be run again raises
        ``Reject(requeue=True)``."""
        return host().cancelled()

    def remaining(self) -> float:
        """Seconds until the hard time limit."""
        return remaining()

    def update_state(self, state: str, meta: Any = None) -> None:
        """Gives the task a state that clients see as ``AsyncResult.state`` and ``.info`` until the next one or its end.
        SUCCESS, FAILURE, REVOKED and RETRY are refused, since they follow from how the task ends.

        Of many updates in a short time the host stores the last, and then does not make the task wait."""
        host().update_state(state, dumps(meta))

    def progress(self, current: int, total: int) -> None:
        """Tells clients how far the task is: the state ``PROGRESS`` with ``current`` and ``total``, as is the custom with
        Celery. A task need not care whether it could be stored; ``update_state`` tells one that does."""
        try:
            host().update_state("PROGRESS", dumps({"current": current, "total": total}))
        except UpdateError:
            pass

    def send_event(self, kind: str, fields: Mapping[str, Any] | None = None, /, **more: Any) -> None:
        """Tells monitors something about this task besides what the worker tells them. The kind is one of your own, such as
        ``task-indexed``. Monitors get it at once; if the worker sends no events, or nobody listens, nothing happens."""
        host().send_event(kind, dumps({**(fields or {}), **more}))

    def publish(self, signature: Any) -> str:
        """Calls another task, or whatever a canvas says, once this one has succeeded or is replaced: if it comes to anything
        else, nothing is published. Gives the id of the result. Declared under ``publish`` in ``[needs]`` of ``plugin.toml``."""
        return host().send(dumps(signature), False)

    def publish_now(self, signature: Any) -> str:
        """Calls another task now, whatever this one comes to, and returns when the broker has the call."""
        return host().send(dumps(signature), True)

    def apply(self, signature: Any) -> AsyncResult:
        """As ``publish``, and tells where all of the results will be: the task may return that."""
        return _results.apply(signature, now=False)

    def apply_now(self, signature: Any) -> AsyncResult:
        """As ``publish_now``, and tells where all of the results will be, so that they can be waited for."""
        return _results.apply(signature, now=True)

    def add_to_chord(self, signature: Any) -> AsyncResult:
        """Adds to the header of the chord that this task is in the header of: its body then waits for the other too, and is
        called with its result among those of the header. It is published once this task has succeeded, before that is
        counted. A task that is in no chord gets a ValueError."""
        if self.request.get("chord") is None:
            raise ValueError("Current task is not member of any chord")
        return _results.add_to_chord(signature)

    def result(self, id: str) -> TaskResult:
        """What is known about a task that this one called. Declared under ``results`` in ``[needs]``."""
        return _results.AsyncResult(str(id)).known()

    def wait(self, id: str, timeout: float) -> TaskResult:
        """Waits so many seconds until a task is done that was called with ``publish_now``. This task keeps its slot meanwhile:
        a worker all of whose tasks wait for others that it alone could run does nothing."""
        return _results.AsyncResult(str(id)).wait(timeout)[0]

    def join(self, result: AsyncResult, timeout: float) -> list[TaskResult]:
        """Waits for what was called with ``apply_now``, and gives the results of all members of a group, in order, those of a
        group in it in its place; of a task its own. The time is for all of them together."""
        return result.wait(timeout)

    def __repr__(self) -> str:
        return f"<Context: {self.task}[{self.id}]>"


def remaining() -> float:
    left = host().remaining_ms()
    return math.inf if left is None else left / 1000


class Request(Mapping[str, Any]):
    """Celery's ``Task.request``: ``request.root_id``, ``request["root_id"]`` and ``request.get("root_id")`` are the same. What
    is not known is None as an attribute."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._facts: dict[str, Any] | None = None

    def _all(self) -> dict[str, Any]:
        if self._facts is None:
            context = self._context
            own = {"id": context.id, "task": context.task, "retries": context.retries}
            self._facts = {**own, **loads(host().request())}
        return self._facts

    @property
    def id(self) -> str:
        """The task id."""
        return self._context.id

    @property
    def task(self) -> str:
        """The name of the task."""
        return self._context.task

    @property
    def retries(self) -> int:
        """How often this task was retried before."""
        return self._context.retries

    @property
    def args(self) -> list[Any]:
        """Positional arguments."""
        return loads(self._context._given[0])

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments."""
        return loads(self._context._given[1])

    @property
    def called_directly(self) -> bool:
        """True if no client called this task, but Python did."""
        return not self._context.id

    is_eager = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._all().get(name)

    def __getitem__(self, name: str) -> Any:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __repr__(self) -> str:
        return f"<Request: {self._all()!r}>"


_current: Context | None = None


def current_context() -> Context:
    """The call that is being served: for functions that have no parameter for it. A RuntimeError outside of a task."""
    if _current is None:
        raise RuntimeError("no task is being run")
    return _current


def current_or_empty() -> Context:
    return _current if _current is not None else Context()


def enter(context: Context | None) -> None:
    """Changes which call is being served."""
    global _current
    _current = context


from . import _results  # noqa: E402  (needs the above)
