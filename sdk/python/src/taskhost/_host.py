"""What the package asks of the host that runs it, and what it gets where there is none.

Inside a component ``_component`` takes the place of this; in a unit test ``testing.FakeHost`` may.
"""

from __future__ import annotations

from typing import Protocol

from ._errors import BucketError, Denied, HostError, PublishError, ResultError, refuse


class Store(Protocol):
    """An open bucket."""

    def get(self, key: str) -> bytes | None: ...
    def set(self, key: str, value: bytes) -> None: ...
    def delete(self, key: str) -> None: ...
    def exists(self, key: str) -> bool: ...
    def keys(self) -> list[str]: ...
    def increment(self, key: str, delta: int) -> int: ...

    def swap(self, key: str, old: Swap, value: bytes) -> Swap | None:
        """Puts a value where ``old`` was read; nothing if that worked, else what somebody else left."""

    def read(self, key: str) -> Swap: ...


class Swap(Protocol):
    """A value as it was read, to be replaced only if it is still there."""

    value: bytes | None


class Host:
    """No host: what a task asks about itself has harmless answers, and what reaches others is refused."""

    def request(self) -> str:
        return "{}"

    def cancelled(self) -> bool:
        return False

    def remaining_ms(self) -> int | None:
        return None

    def update_state(self, state: str, meta: str) -> None:
        pass

    def send_event(self, kind: str, fields: str) -> None:
        pass

    def send(self, signature: str, now: bool) -> str:
        refuse(PublishError, "unavailable", _NONE.format("tasks are published by a host"))

    def apply(self, signature: str, args: str, kwargs: str, now: bool) -> str:
        refuse(PublishError, "unavailable", _NONE.format("tasks are published by a host"))

    def add_to_chord(self, signature: str, now: bool) -> str:
        refuse(PublishError, "unavailable", _NONE.format("tasks are published by a host"))

    def result(self, id: str) -> str:
        refuse(ResultError, "unavailable", _NONE.format("results are kept by a host"))

    def wait(self, id: str, timeout_ms: int) -> str:
        refuse(ResultError, "unavailable", _NONE.format("results are kept by a host"))

    def config(self, key: str) -> str | None:
        raise Denied(_NONE.format(f"config `{key}` is lent by a host"))

    def secret(self, name: str) -> str:
        raise Denied(_NONE.format(f"secret `{name}` is lent by a host"))

    def open(self, bucket: str) -> Store:
        raise BucketError(_NONE.format(f"bucket `{bucket}` is kept by a host"))

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
        raise HostError(_NONE.format("requests are sent by a host"))

    def log(self, level: str, logger: str, text: str) -> None:
        raise HostError(_NONE.format("the log is a host's"))


_NONE = "{}, and this is none"

_current = Host()


def host() -> Host:
    """The host that answers."""
    return _current


def answer_with(other: Host) -> Host:
    """Has another host answer from now on; gives the one before."""
    global _current
    before, _current = _current, other
    return before
