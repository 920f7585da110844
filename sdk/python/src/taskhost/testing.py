"""A host for unit tests: it runs a task as a worker would, and records what the task does.

    from taskhost.testing import FakeHost

    with FakeHost() as host:
        assert host.call("tasks.add", 1, 2) == 3

Enforces no limits, checks no options and grants everything.
"""

from __future__ import annotations

import itertools
from typing import Any

from . import _guest, _host
from ._errors import ResultTimedOut, ResultUnpublished, UpdateInvalid
from ._failure import End
from ._json import dumps, loads
from ._task import registry

__all__ = ["Ended", "FakeHost"]


class Ended(Exception):
    """A task ended other than with a result. ``kind`` is ``failed``, ``retry``, ``reject``, ``ignore`` or ``replace``."""

    def __init__(self, end: End) -> None:
        failed = end.failed
        super().__init__(end.kind if failed is None else f"{end.kind}: {failed.exc_type}{failed.arguments}")
        self.kind = end.kind
        self.exc_type = None if failed is None else failed.exc_type
        self.exc_module = None if failed is None else failed.exc_module
        self.arguments = None if failed is None else loads(failed.arguments)
        self.traceback = None if failed is None else failed.traceback
        self.countdown = end.countdown
        self.eta = end.eta
        self.max_retries = end.max_retries
        self.args_again = None if end.args is None else loads(end.args)
        self.kwargs_again = None if end.kwargs is None else loads(end.kwargs)
        self.requeue = end.requeue
        self.signature = None if end.signature is None else loads(end.signature)


class FakeHost(_host.Host):
    """A host that records.

    :param config: settings by key.
    :param secrets: secrets by name.
    :param request: what ``Context.request`` tells besides id, task and retries.
    :param cancelled: what ``Context.cancelled`` answers.
    :param remaining: seconds until the time limit.
    """

    def __init__(
        self,
        *,
        config: dict[str, str] | None = None,
        secrets: dict[str, str] | None = None,
        request: dict[str, Any] | None = None,
        cancelled: bool = False,
        remaining: float = 1800.0,
    ) -> None:
        self.settings = config or {}
        self.secrets = secrets or {}
        self.facts = request or {}
        self.is_cancelled = cancelled
        self.seconds = remaining
        self.states: list[tuple[str, Any]] = []
        """States and metas, in order."""
        self.events: list[tuple[str, Any]] = []
        """Kinds and fields of events."""
        self.published: list[dict[str, Any]] = []
        """Signatures that go out once the task has succeeded."""
        self.published_now: list[dict[str, Any]] = []
        """Signatures that went out at once."""
        self.added: list[dict[str, Any]] = []
        """Signatures that were added to the chord."""
        self.lines: list[tuple[str, str, str]] = []
        """Level, logger and text of what was logged."""
        self.results: dict[str, dict[str, Any]] = {}
        """What is known about other tasks, by id: ``{"state": "SUCCESS", "result": 3}``."""
        self.buckets: dict[str, dict[str, bytes]] = {}
        """What is in each bucket."""
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        """Method, URL, header fields and body of requests."""
        self.answers: dict[str, tuple[int, Any]] = {}
        """Status and body of the answer by URL: bytes, a text, or what becomes JSON. Of others it is 404."""
        self._ids = (f"id-{number}" for number in itertools.count(1))
        self._unpublished: set[str] = set()
        self._before: _host.Host | None = None

    def __enter__(self) -> FakeHost:
        self._before = _host.answer_with(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            _host.answer_with(self._before)

    def call(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs a task, given itself or by name, with arguments that went through JSON. What it returns went through it as
        well; any other end is raised as an ``Ended``."""
        return self.call_again(task, 0, *args, **kwargs)

    def call_again(self, task: Any, retries: int, /, *args: Any, **kwargs: Any) -> Any:
        """The same for a task that was retried so often."""
        before = _host.answer_with(self)
        try:
            name = getattr(task, "name", task)
            ended = _guest.run(registry, "id-0", name, dumps(list(args)), dumps(kwargs), retries)
        finally:
            _host.answer_with(before)
        if isinstance(ended, End):
            raise Ended(ended)
        return loads(ended)

    def request(self) -> str:
        return dumps(self.facts)

    def cancelled(self) -> bool:
        return self.is_cancelled

    def remaining_ms(self) -> int:
        return int(self.seconds * 1000)

    def update_state(self, state: str, meta: str) -> None:
        if state in ("SUCCESS", "FAILURE", "REVOKED", "RETRY"):
            raise UpdateInvalid(f"state {state} is what a task comes to, and not for it to say")
        self.states.append((state, loads(meta)))

    def send_event(self, kind: str, fields: str) -> None:
        self.events.append((kind, loads(fields)))

    def send(self, signature: str, now: bool) -> str:
        read = loads(signature)
        (self.published_now if now else self.published).append(read)
        id = read["options"].get("task_id") or next(self._ids)
        if not now:
            self._unpublished.add(id)
        return id

    def apply(self, signature: str, args: str, kwargs: str, now: bool) -> str:
        read = loads(signature)
        if not read["immutable"]:
            read["args"] = [*loads(args), *read["args"]]
            read["kwargs"].update(loads(kwargs))
        return dumps([[self.send(dumps(read), now), None], None])

    def add_to_chord(self, signature: str, now: bool) -> str:
        self.added.append(loads(signature))
        return dumps([[next(self._ids), None], None])

    def result(self, id: str) -> str:
        return dumps({"task_id": id, "state": "PENDING", "result": None, "traceback": None, **self.results.get(id, {})})

    def wait(self, id: str, timeout_ms: int) -> str:
        if id not in self.results:
            if id in self._unpublished:
                raise ResultUnpublished(f"task {id} is published when this one has succeeded")
            raise ResultTimedOut(f"task {id} was not done in time")
        return self.result(id)

    def config(self, key: str) -> str | None:
        return self.settings.get(key)

    def secret(self, name: str) -> str:
        return self.secrets[name] if name in self.secrets else super().secret(name)

    def open(self, bucket: str) -> _FakeStore:
        return _FakeStore(self.buckets.setdefault(bucket, {}))

    def exchange(
        self,
        method: str,
        scheme: str,
        authority: str,
        target: str,
        headers: list[tuple[str, str]],
        body: bytes,
        timeout: float | None,
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        url = f"{scheme}://{authority}{target}"
        self.requests.append((method, url, dict(headers), body))
        status, answer = self.answers.get(url, (404, b""))
        if isinstance(answer, (bytes, str)):
            return status, [], answer.encode() if isinstance(answer, str) else answer
        return status, [("content-type", "application/json")], dumps(answer).encode()

    def log(self, level: str, logger: str, text: str) -> None:
        self.lines.append((level, logger, text))


class _FakeSwap:
    def __init__(self, value: bytes | None) -> None:
        self.value = value


class _FakeStore:
    def __init__(self, values: dict[str, bytes]) -> None:
        self._values = values

    def get(self, key: str) -> bytes | None:
        return self._values.get(key)

    def set(self, key: str, value: bytes) -> None:
        self._values[key] = value

    def delete(self, key: str) -> None:
        self._values.pop(key, None)

    def exists(self, key: str) -> bool:
        return key in self._values

    def keys(self) -> list[str]:
        return list(self._values)

    def increment(self, key: str, delta: int) -> int:
        number = int(self._values.get(key, b"0")) + delta
        self._values[key] = str(number).encode()
        return number

    def read(self, key: str) -> _FakeSwap:
        return _FakeSwap(self._values.get(key))

    def swap(self, key: str, old: _FakeSwap, value: bytes) -> _FakeSwap | None:
        if self._values.get(key) != old.value:
            return self.read(key)
        self._values[key] = value
        return None
