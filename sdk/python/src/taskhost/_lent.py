"""What the operator lends to a plugin: settings, secrets, and buckets for values.

Environment variables and files are Python's business: ``os.environ``, ``open``.
"""

from __future__ import annotations

from typing import Callable

from ._errors import Denied
from ._host import host

__all__ = ["Bucket", "config", "secret"]


def config(key: str) -> str:
    """The value of a setting. Its key is declared under ``config`` in ``[needs]`` of ``plugin.toml``, and the operator gives it
    a value in ``host.toml``."""
    value = host().config(key)
    if value is None:
        raise Denied(f"config `{key}` has no value")
    return value


def secret(name: str) -> str:
    """A secret. Its name is declared under ``secrets`` in ``[needs]`` of ``plugin.toml``, and the operator says in ``host.toml``
    where the worker finds it."""
    return host().secret(name)


class Bucket:
    """Values that a plugin keeps from one task to the next. What a bucket is called is declared under ``keyvalue`` in
    ``[needs]`` of ``plugin.toml``; nobody but the plugin sees what is in it.

        visits = Bucket("visits").increment(page, 1)
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._store = host().open(name)

    def get(self, key: str) -> bytes | None:
        """The value under a key, if there is one."""
        return self._store.get(key)

    def set(self, key: str, value: bytes | str) -> None:
        """Puts a value under a key, whatever was there."""
        self._store.set(key, _bytes(value))

    def delete(self, key: str) -> None:
        """Takes a value away, if it is there."""
        self._store.delete(key)

    def exists(self, key: str) -> bool:
        """True if there is a value under the key."""
        return self._store.exists(key)

    __contains__ = exists

    def keys(self) -> list[str]:
        """All keys, sorted. Those that come and go meanwhile may be missed."""
        return sorted(set(self._store.keys()))

    def increment(self, key: str, delta: int = 1) -> int:
        """Adds to the number under a key, which is zero if there is none, and gives the sum. In one step."""
        return self._store.increment(key, delta)

    def update(self, key: str, change: Callable[[bytes | None], bytes | str | None]) -> bool:
        """Puts what ``change`` makes of a value in its place. If somebody else was faster, it is asked again with what he left;
        with None it gives up, and False is returned."""
        swap = self._store.read(key)
        while True:
            value = change(swap.value)
            if value is None:
                return False
            changed = self._store.swap(key, swap, _bytes(value))
            if changed is None:
                return True
            swap = changed

    def __repr__(self) -> str:
        return f"Bucket({self.name!r})"


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value
