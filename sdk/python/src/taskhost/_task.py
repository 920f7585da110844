"""Declares tasks."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Callable, Generic, NoReturn, ParamSpec, TypeVar, overload

from . import _canvas, _context, _options
from ._bind import Parameters
from ._canvas import Signature
from ._context import Context, Request
from ._errors import Replace, Retry
from ._json import dumps
from ._results import AsyncResult

__all__ = ["Task", "shared_task", "task"]

P = ParamSpec("P")
R = TypeVar("R")

# What Celery's tasks have if nothing else is said.
_DEFAULTS: dict[str, Any] = {"max_retries": 3, "default_retry_delay": 180, "ignore_result": False, "rate_limit": None}


class Task(Generic[P, R]):
    """A function that clients call by name. Called from Python it is that function.

    A task with the option ``bind`` gets it as its first argument, with Celery's methods and attributes.
    """

    def __init__(self, function: Callable[..., Any], name: str, summary: str, bind: bool, options: dict[str, Any]) -> None:
        functools.update_wrapper(self, function)
        self.name = name
        """The name that clients use."""
        self.summary = summary
        """One line for people."""
        self.options = options
        """Celery's options."""
        self._function = function
        self._bind = bind
        self._parameters = Parameters(function, bind)
        self._call = functools.partial(function, self) if bind else function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._call(*args, **kwargs)

    @property
    def run(self) -> Callable[P, R]:
        """The function."""
        return self._call

    def serve(self, context: Context, args: str, kwargs: str) -> str:
        """Serves a call whose arguments and result are JSON."""
        given, named = self._parameters.bind(args, kwargs, context)
        return dumps(self._call(*given, **named))

    def schema(self) -> dict[str, Any]:
        """A JSON Schema of the arguments."""
        return self._parameters.schema()

    # Calls of this task.

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A signature of this task with these arguments."""
        return Signature(self.name, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """The same, which is not to be called with the results of others."""
        return Signature(self.name, args, kwargs, immutable=True)

    def signature(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature:
        """A signature of this task, with options."""
        return Signature(self.name, args, kwargs, **options)

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """Publishes a call of this task now, as Celery does. ``Context.publish`` is what waits until the task that calls it has
        succeeded."""
        return self.s(*args, **kwargs).apply_async()

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """The same, with options."""
        return Signature(self.name, args, kwargs, **options).apply_async()

    def chunks(self, it: Iterable[Any], n: int) -> Signature:
        """Calls of this task, each with its list of arguments, ``n`` of them to a message."""
        return _canvas.chunks(self.s(), it, n)

    def map(self, it: Iterable[Any]) -> Signature:
        """Calls of this task in one message, each with one argument."""
        return _canvas.xmap(self.s(), it)

    def starmap(self, it: Iterable[Any]) -> Signature:
        """Calls of this task in one message, each with its list of arguments."""
        return _canvas.xstarmap(self.s(), it)

    def AsyncResult(self, id: str) -> AsyncResult:
        """Where the result of the call with that id is."""
        return AsyncResult(id)

    # For the task itself.

    @property
    def request(self) -> Request:
        """The call that is being served."""
        return _context.current_or_empty().request

    @property
    def context(self) -> Context:
        """The context of the call that is being served."""
        return _context.current_or_empty()

    def retry(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
    ) -> Retry:
        """Has this task run again: ``raise self.retry(exc=error, countdown=5)``. It raises by itself unless it is told not to
        throw. Once no retry is left the task fails with ``exc``, or with the exception that is being handled."""
        wish = Retry(
            countdown=countdown,
            eta=eta,
            max_retries=max_retries,
            args=None if args is None else list(args),
            kwargs=kwargs,
            cause=exc if exc is not None else sys.exc_info()[1],
        )
        if throw:
            raise wish
        return wish

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Gives this task a state, see ``Context.update_state``. It is the state of no other task."""
        context = _context.current_or_empty()
        if task_id is not None and task_id != context.id:
            raise ValueError("a task may only update its own state")
        if state is None:
            raise TypeError("update_state() missing 1 required argument: 'state'")
        context.update_state(state, meta)

    def send_event(self, type_: str, **fields: Any) -> None:
        """Tells monitors something about this task."""
        _context.current_or_empty().send_event(type_, fields)

    def replace(self, sig: Any) -> NoReturn:
        """Puts another task, or a canvas, in this one's place."""
        raise Replace(_canvas._read_one(sig))

    def add_to_chord(self, sig: Any) -> AsyncResult:
        """Adds to the chord that this task is in, see ``Context.add_to_chord``."""
        return _context.current_or_empty().add_to_chord(sig)

    def __getattr__(self, name: str) -> Any:
        # Options are attributes in Celery: `self.max_retries`.
        options = self.__dict__.get("options", {})
        if name in options:
            return options[name]
        if name in _options.OPTIONS:
            return _DEFAULTS.get(name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"


registry: dict[str, Task[..., Any]] = {}
"""The tasks that were declared, by name."""


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *, name: str | None = None, bind: bool = False, summary: str | None = None, **options: Any
) -> Callable[[Callable[..., R]], Task[..., R]]: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    bind: bool = False,
    summary: str | None = None,
    **options: Any,
) -> Any:
    """Makes a task of a function: ``@task``, or ``@task(name="images.resize", max_retries=5, time_limit=30)``.

    :param name: the name that clients use; without one it is the function's, behind that of its module: ``app.resize``.
    :param bind: the first parameter of the function is the task itself, as in Celery.
    :param summary: one line for people; without it that is the first line of the docstring.
    :param options: Celery's options. A class of exceptions stands for all those below it.
    """
    if function is None:
        return functools.partial(_declare, name=name, bind=bind, summary=summary, options=options)
    return _declare(function, name=name, bind=bind, summary=summary, options=options)


shared_task = task
"""What Celery calls a task that belongs to no application."""


def _declare(
    function: Callable[..., Any], name: str | None, bind: bool, summary: str | None, options: dict[str, Any]
) -> Task[..., Any]:
    if not callable(function):
        raise TypeError(f"@task is written above a function, not {function!r}")
    if isinstance(function, type) or not hasattr(function, "__qualname__"):
        raise TypeError(f"@task is written above a function, not above {function!r}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        kind = "an async function" if inspect.iscoroutinefunction(function) else "a generator"
        raise TypeError(f"{function.__qualname__}() is {kind}, and a task is a plain function: what it returns is its result")
    name = name if name is not None else f"{function.__module__}.{function.__name__}"
    if summary is None:
        summary = next(iter((function.__doc__ or "").strip().splitlines()), "").strip()
    made: Task[..., Any] = Task(function, name, summary, bind, _options.read(options, function.__qualname__))
    if (other := registry.get(name)) is not None and not _same(other._function, function):
        raise ValueError(f"two tasks are called {name!r}: {_place(other._function)} and {_place(function)}")
    registry[name] = made
    return made


def _same(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """A module that is imported again declares its tasks again."""
    return (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__qualname__}() in {function.__module__}"
