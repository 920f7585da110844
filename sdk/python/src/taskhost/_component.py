"""The host as a component sees it: what componentize-py generates from the world ``sdk``.

Imported in components only, see ``_entry``. The generated modules are called by interface and version, so they are looked for
by the beginning of their names.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any, NoReturn

import wit_world.exports
import wit_world.imports
from componentize_py_types import Err

from . import _host
from ._errors import BucketError, Denied, EventError, HostError, PublishError, ResultError, UpdateError, refuse
from ._failure import End, Failed
from ._task import registry

_NAMES = [module.name for module in pkgutil.iter_modules(wit_world.imports.__path__)]


def generated(interface: str) -> ModuleType:
    """The module of an interface such as ``wasi_config_store``, whatever its version."""
    found = [name for name in _NAMES if name == interface or name.startswith(f"{interface}_0_")]
    if not found:
        raise ImportError(f"the world of this plugin does not import {interface}: build it with the world `sdk`")
    return importlib.import_module(f"wit_world.imports.{found[0]}")


_types = generated("taskhost_task_types")
_context = generated("taskhost_task_context")
_publish = generated("taskhost_task_publish")
_results = generated("taskhost_task_results")
_secrets = generated("taskhost_task_secrets")
_config = generated("wasi_config_store")
_store = generated("wasi_keyvalue_store")
_atomics = generated("wasi_keyvalue_atomics")
_logging = generated("wasi_logging_logging")


def refused(family: type[HostError], error: Err) -> NoReturn:
    """Raises what a case of one of the interface's variants stands for."""
    kind = type(error.value).__name__.rpartition("_")[2]
    hyphened = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind).lstrip("-")
    refuse(family, hyphened, error.value.value)


class Component(_host.Host):
    """The host that runs this component."""

    def request(self) -> str:
        return _context.request()

    def cancelled(self) -> bool:
        return _context.cancelled()

    def remaining_ms(self) -> int | None:
        return _context.remaining_ms()

    def update_state(self, state: str, meta: str) -> None:
        try:
            _context.update_state(state, meta)
        except Err as error:
            refused(UpdateError, error)

    def send_event(self, kind: str, fields: str) -> None:
        try:
            _context.send_event(kind, fields)
        except Err as error:
            refused(EventError, error)

    def send(self, signature: str, now: bool) -> str:
        try:
            return _publish.immediately(signature) if now else _publish.send(signature)
        except Err as error:
            refused(PublishError, error)

    def apply(self, signature: str, args: str, kwargs: str, now: bool) -> str:
        try:
            return _publish.apply(signature, args, kwargs, now)
        except Err as error:
            refused(PublishError, error)

    def add_to_chord(self, signature: str, now: bool) -> str:
        try:
            return _publish.add_to_chord(signature, now)
        except Err as error:
            refused(PublishError, error)

    def result(self, id: str) -> str:
        try:
            return _results.get(id)
        except Err as error:
            refused(ResultError, error)

    def wait(self, id: str, timeout_ms: int) -> str:
        try:
            return _results.wait(id, timeout_ms)
        except Err as error:
            refused(ResultError, error)

    def config(self, key: str) -> str | None:
        try:
            return _config.get(key)
        except Err as error:
            raise Denied(error.value.value) from None

    def secret(self, name: str) -> str:
        try:
            return _secrets.get(name)
        except Err as error:
            raise Denied(error.value.value) from None

    def open(self, bucket: str) -> _host.Store:
        return Store(_asked(_store.open, bucket))

    def log(self, level: str, logger: str, text: str) -> None:
        _logging.log(_LEVELS[level], logger, text)


_LEVELS = {level.name.lower(): level for level in _logging.Level}


class Store:
    """An open bucket."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket

    def get(self, key: str) -> bytes | None:
        return _asked(self._bucket.get, key)

    def set(self, key: str, value: bytes) -> None:
        _asked(self._bucket.set, key, value)

    def delete(self, key: str) -> None:
        _asked(self._bucket.delete, key)

    def exists(self, key: str) -> bool:
        return _asked(self._bucket.exists, key)

    def keys(self) -> list[str]:
        page = _asked(self._bucket.list_keys, None)
        keys = list(page.keys)
        while page.cursor is not None:
            page = _asked(self._bucket.list_keys, page.cursor)
            keys += page.keys
        return keys

    def increment(self, key: str, delta: int) -> int:
        if not -(2**63) <= delta < 2**63:
            raise OverflowError(f"{delta} is no number of 64 bits")
        return _asked(_atomics.increment, self._bucket, key, delta)

    def read(self, key: str) -> Swap:
        return Swap(_asked(_atomics.Cas.new, self._bucket, key))

    def swap(self, key: str, old: Swap, value: bytes) -> Swap | None:
        try:
            _atomics.swap(old.cas, value)
        except Err as error:
            if isinstance(error.value, _atomics.CasError_CasFailed):
                return Swap(error.value.value)
            raise BucketError(_told(error.value.value)) from None
        return None


class Swap:
    """A value as it was read."""

    def __init__(self, cas: Any) -> None:
        self.cas = cas
        self.value: bytes | None = _asked(cas.current)


def _asked(function: Any, *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except Err as error:
        raise BucketError(_told(error.value)) from None


def _told(error: Any) -> str:
    if isinstance(error, _store.Error_NoSuchStore):
        return "there is no such bucket"
    return "the bucket is denied" if isinstance(error, _store.Error_AccessDenied) else error.value


class Tasks:
    """What the component exports."""

    def describe(self) -> list[Any]:
        from ._guest import described

        return [
            _types.TaskInfo(name=name, summary=task.summary, schema=schema, options=options)
            for name, task, schema, options in described(registry)
        ]

    def run(self, call: Any) -> str:
        from ._guest import run

        result = run(registry, call.id, call.task, call.args, call.kwargs, call.retries)
        if isinstance(result, End):
            raise Err(_failure(result))
        return result


def export(into: dict[str, Any]) -> None:
    """Puts the exported class under the name that the generated code looks for it by."""
    for name, kind in vars(wit_world.exports).items():
        if isinstance(kind, type) and hasattr(kind, "describe") and hasattr(kind, "run"):
            into[name] = Tasks


def _failure(end: End) -> Any:
    match end.kind:
        case "failed":
            return _types.Failure_Failed(_error(end.failed))
        case "retry":
            delay = _types.Delay_Default()
            if end.countdown is not None:
                delay = _types.Delay_Countdown(end.countdown)
            elif end.eta is not None:
                delay = _types.Delay_Eta(end.eta)
            cause = None if end.failed is None else _error(end.failed)
            return _types.Failure_Retry(_types.Retry(cause, delay, end.max_retries, end.args, end.kwargs))
        case "reject":
            return _types.Failure_Reject(end.requeue)
        case "ignore":
            return _types.Failure_Ignore()
        case _:
            return _types.Failure_Replace(end.signature)


def _error(failed: Failed) -> Any:
    return _types.Error(failed.exc_type, failed.exc_module, failed.arguments, failed.traceback)
