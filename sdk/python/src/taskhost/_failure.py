"""Says how a task ended, in the words of the interface: what an exception becomes, and its traceback."""

from __future__ import annotations

import datetime
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from ._errors import Ignore, NotRegistered, Reject, Replace, Retry, TaskError
from ._json import dumps

__all__ = ["End", "Failed", "ended"]

_OWN = os.path.dirname(__file__) + os.sep
# Where componentize-py has put what it generates.
_TOOLS = ("/world/", "/bundled/")
# Which Python leaves out itself where a module is imported by a statement.
_IMPORT = ("<frozen importlib", "/python/importlib/")


class Failed:
    """An exception as the client will raise it."""

    __slots__ = ("arguments", "exc_module", "exc_type", "traceback")

    def __init__(self, exc_type: str, exc_module: str | None, arguments: str, traceback: str) -> None:
        self.exc_type = exc_type
        self.exc_module = exc_module
        self.arguments = arguments
        self.traceback = traceback


class End:
    """How a task ended: ``failed``, ``retry``, ``reject``, ``ignore`` or ``replace``."""

    __slots__ = ("args", "countdown", "eta", "failed", "kind", "kwargs", "max_retries", "requeue", "signature")

    def __init__(self, kind: str, **fields: Any) -> None:
        self.kind = kind
        for name in self.__slots__:
            if name != "kind":
                setattr(self, name, fields.get(name))


def ended(error: BaseException) -> End:
    """What the host is told of an exception that left a task."""
    try:
        return _ended(error)
    except Exception as trouble:
        # What a retry or a replacement is to carry is no JSON, or an exception cannot even be shown.
        trouble.__context__ = None
        return End("failed", failed=failed(trouble))


def _ended(error: BaseException) -> End:
    if isinstance(error, Retry):
        cause = error.cause or error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        eta = error.eta
        if isinstance(eta, datetime.datetime):
            eta = eta.isoformat()
        return End(
            "retry",
            failed=None if cause is None or isinstance(cause, _WISHES) else failed(cause),
            countdown=None if error.countdown is None else float(error.countdown),
            eta=eta,
            max_retries=error.max_retries,
            args=None if error.args_again is None else dumps(list(error.args_again)),
            kwargs=None if error.kwargs_again is None else dumps(dict(error.kwargs_again)),
        )
    if isinstance(error, Reject):
        return End("reject", requeue=bool(error.requeue))
    if isinstance(error, Ignore):
        return End("ignore")
    if isinstance(error, Replace):
        return End("replace", signature=dumps(error.signature))
    return End("failed", failed=failed(error))


_WISHES = (Retry, Reject, Ignore, Replace)


def failed(error: BaseException) -> Failed:
    """The exception with its causes."""
    if isinstance(error, MemoryError):
        # The frames hold on to what there was not enough room for, and the text needs some.
        traceback.clear_frames(error.__traceback__)
    if isinstance(error, ModuleNotFoundError) and sys.platform == "wasi":
        error.add_note(
            "A component holds only the modules that were imported when it was built: import this one at the top of a module."
        )
    kind, module = type(error).__name__, type(error).__module__
    text = None
    if isinstance(error, TaskError):
        kind, module, text = error.type, error.module, error.traceback
        error = _disguised(error)
    elif isinstance(error, NotRegistered):
        module = "celery.exceptions"
    elif not isinstance(error, Exception):
        # A client must not be made to exit: it gets a class of that name made for it.
        module = None
    arguments = "[" + ", ".join(_argument(one) for one in error.args) + "]"
    return Failed(kind, module, arguments, text if text is not None else "".join(lines(error)))


def _disguised(error: TaskError) -> BaseException:
    """The same as an exception of the class whose name was chosen."""
    # Whoever chooses no message wants none shown.
    other = type(error.type, (Exception,), {"__module__": error.module or "builtins"})(*error.args)
    other.__cause__, other.__context__ = error.__cause__, error.__context__
    other.__suppress_context__ = error.__suppress_context__
    for note in getattr(error, "__notes__", ()):
        other.add_note(note)
    return other.with_traceback(error.__traceback__)


def _argument(value: Any) -> str:
    try:
        return dumps(value)
    except Exception:
        return dumps(repr(value))


def lines(error: BaseException) -> Iterator[str]:
    """The traceback as Python prints it, causes first, of the user's code alone."""
    shown = traceback.TracebackException.from_exception(error, compact=True)
    seen: set[int] = set()
    waiting: list[tuple[Any, BaseException | None]] = [(shown, error)]
    while waiting:
        one, raised = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.stack[:] = [_named(frame) for frame in one.stack if not _is_ours(frame.filename)]
        function = getattr(raised, "function", None) if isinstance(raised, TypeError) else None
        if not one.stack and hasattr(function, "co_firstlineno"):
            place = traceback.FrameSummary(function.co_filename, function.co_firstlineno, function.co_name)
            one.stack.append(_named(place))
        if isinstance(getattr(one, "filename", None), str):  # of a SyntaxError
            one.filename = _in_project(one.filename)
        waiting.append((one.__cause__, raised.__cause__ if raised else None))
        waiting.append((one.__context__, raised.__context__ if raised else None))
        waiting.extend((inner, None) for inner in getattr(one, "exceptions", None) or ())
    return shown.format()


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OWN, *_TOOLS, *_IMPORT)) or filename.endswith("_taskhost_plugin.py")


def _named(frame: traceback.FrameSummary) -> traceback.FrameSummary:
    frame.line  # noqa: B018  (looks it up under the name that the source is known by)
    frame.filename = _in_project(frame.filename)
    return frame


def _in_project(filename: str) -> str:
    """Where a file was in the project, not where the build has put it."""
    folder = next((folder for folder in _folders if filename.startswith(folder)), "")
    return filename[len(folder) :]


_folders: list[str] = []


def name_from(folders: list[str]) -> None:
    """Files below these are named without them."""
    _folders[:] = [folder.rstrip("/") + "/" for folder in folders]
