"""What became of other tasks.

Nothing is kept: every question goes to the host. Whose results may be seen is declared under ``results`` in ``[needs]`` of
``plugin.toml``.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from . import _context
from ._errors import PublishInvalid
from ._host import host
from ._json import dumps, loads

__all__ = ["AsyncResult", "TaskResult"]


class TaskResult:
    """What is known about a task."""

    __slots__ = ("meta",)

    def __init__(self, meta: Mapping[str, Any]) -> None:
        self.meta = meta
        """Everything, as the host told it."""

    @property
    def state(self) -> str:
        """Celery's name of it; PENDING, if nothing is known."""
        return self.meta.get("state", "PENDING")

    @property
    def result(self) -> Any:
        """What it returned; of a failure Celery's map of the exception, of a state of the task's own its meta."""
        return self.meta.get("result")

    @property
    def traceback(self) -> str | None:
        """The traceback of a failure."""
        return self.meta.get("traceback")

    def ready(self) -> bool:
        """True once it will not change any more."""
        return self.state in ("SUCCESS", "FAILURE", "REVOKED")

    def successful(self) -> bool:
        """True once it has returned."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """True once it has failed."""
        return self.state == "FAILURE"

    def get(self) -> Any:
        """The result; the exception that it failed with is raised."""
        if self.state in ("FAILURE", "REVOKED"):
            self._raise()
        return self.result

    def _raise(self) -> NoReturn:
        told = self.result if isinstance(self.result, Mapping) else {}
        name, module = told.get("exc_type") or "TaskRevokedError", told.get("exc_module")
        arguments = told.get("exc_message", ["revoked"] if self.state == "REVOKED" else [])
        kind = getattr(builtins, name, None) if module in (None, "builtins") else None
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            kind = type(name, (Exception,), {"__module__": module or "taskhost"})
        arguments = arguments if isinstance(arguments, (list, tuple)) else [arguments]
        try:
            error = kind(*arguments)
        except Exception:  # a class that wants other arguments
            error = Exception(f"{name}({', '.join(map(repr, arguments))})")
        raise error

    def __repr__(self) -> str:
        return f"<TaskResult: {self.state}>"


class AsyncResult:
    """Where the result of a call will be: of a task, or of a group of them.

    It is Celery's ``AsyncResult`` and ``GroupResult``: a task that returns one gives its client what ``as_tuple`` is, and one
    that is given such a list reads it with ``AsyncResult.from_tuple``.
    """

    __slots__ = ("children", "id", "parent")

    def __init__(
        self, id: str, parent: AsyncResult | None = None, children: list[AsyncResult] | None = None
    ) -> None:
        self.id = id
        """The id of the task; of a chain that of its last step, of a chord that of its body; of a group its own."""
        self.parent = parent
        """What comes before it: the step before in a chain, or the header of a chord."""
        self.children = children
        """Of a group its members, in order; nothing if it is a task."""

    @classmethod
    def from_tuple(cls, found: Any) -> AsyncResult:
        """Reads Celery's ``[[id, parent], children]``. Chains may be long, so it is no recursion that follows parents."""
        steps = []
        while found is not None:
            try:
                (id, parent), children = found
            except (TypeError, ValueError):
                raise ValueError("not the result of a call: no [[id, parent], children]") from None
            if not isinstance(id, str):
                raise ValueError(f"not the result of a call: {id!r} is no id")
            steps.append((id, children))
            found = parent
        if not steps:
            raise ValueError("not the result of a call: null")
        made = None
        for id, children in reversed(steps):
            made = cls(id, made, None if children is None else [cls.from_tuple(child) for child in children])
        return made  # type: ignore[return-value]

    def as_tuple(self) -> list[Any]:
        """Celery's ``[[id, parent], children]``."""
        steps, step = [], self
        while step is not None:
            steps.append(step)
            step = step.parent
        made = None
        for step in reversed(steps):
            children = None if step.children is None else [child.as_tuple() for child in step.children]
            made = [[step.id, made], children]
        return made  # type: ignore[return-value]

    __json__ = as_tuple

    def known(self) -> TaskResult:
        """What is known about it."""
        return TaskResult(loads(host().result(self.id)))

    @property
    def state(self) -> str:
        """The state that it has."""
        return self.known().state

    status = state

    @property
    def result(self) -> Any:
        """Its result, as far as there is one."""
        return self.known().result

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a failure."""
        return self.known().traceback

    def ready(self) -> bool:
        """True once it will not change any more; of a group once that is so for all members."""
        return all(member.known().ready() for member in self._members())

    def successful(self) -> bool:
        """True once it has returned; of a group once all members have."""
        return all(member.known().successful() for member in self._members())

    def failed(self) -> bool:
        """True once it has failed; of a group once a member has."""
        return any(member.known().failed() for member in self._members())

    def get(self, timeout: float | None = None, propagate: bool = True) -> Any:
        """Waits for it, and gives the result, or a list of those of a group; the exception that it failed with is raised,
        unless it is not to propagate. Without a timeout it waits until this task's time is over.

        It can be waited for only if it was published at once. This task keeps its slot meanwhile: a worker all of whose tasks
        wait for others that it alone could run does nothing.
        """
        found = [one.get() if propagate else one.result for one in self.wait(timeout)]
        return found if self.children is not None else found[0]

    def wait(self, timeout: float | None = None) -> list[TaskResult]:
        """Waits for it, or for all members of a group. The time is for all of them together."""
        remaining = _context.remaining() if timeout is None else timeout
        end = time.monotonic() + remaining
        return [_wait(member.id, max(0.0, end - time.monotonic())) for member in self._members()]

    def _members(self) -> Iterable[AsyncResult]:
        """The tasks in it, in order, those of a group in it in its place."""
        waiting = [self]
        while waiting:
            one = waiting.pop()
            if one.children is None:
                yield one
            else:
                waiting.extend(reversed(one.children))

    def __eq__(self, other: object) -> bool:
        return self.as_tuple() == other.as_tuple() if isinstance(other, AsyncResult) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"


# As far as the host counts.
_MS_MAX = 2**63


def _wait(id: str, timeout: float) -> TaskResult:
    return TaskResult(loads(host().wait(id, min(int(timeout * 1000) if timeout < _MS_MAX else _MS_MAX, _MS_MAX))))


def apply(signature: Any, now: bool, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None) -> AsyncResult:
    """Publishes what the signature is with these arguments."""
    return _read(host().apply(dumps(signature), dumps(list(args)), dumps(dict(kwargs or {})), now))


def add_to_chord(signature: Any) -> AsyncResult:
    """Adds to the chord that this task is in."""
    return _read(host().add_to_chord(dumps(signature), False))


def _read(told: str) -> AsyncResult:
    try:
        return AsyncResult.from_tuple(loads(told))
    except ValueError as error:
        raise PublishInvalid(str(error)) from None
