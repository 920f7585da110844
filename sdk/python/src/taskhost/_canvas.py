"""Calls of tasks, and what is composed of them: Celery's signatures, chains, groups and chords.

Sends nothing by itself, see ``Context.publish``; and works out no ids: the host freezes what it publishes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._results import AsyncResult

__all__ = ["Signature", "chain", "chord", "chunks", "group", "signature", "xmap", "xstarmap"]


class Signature(dict):
    """A call of a task, or a canvas of several.

    It is Celery's map, and has the methods that Celery's class has: ``Signature("images.resize", (url,), {"width": 800})``.
    As there, ``link`` and ``set`` change it, ``clone``, ``|``, ``chain``, ``group`` and ``chord`` make another one.

    :param task: the name of the task, or one that ``@task`` made, or a map to be read as a signature.
    :param args: positional arguments; when it is called with the result of another, that comes before them.
    :param kwargs: keyword arguments.
    :param options: what ``apply_async`` takes: ``queue``, ``priority``, ``countdown``, ``expires``, ``task_id``, ..
    :param immutable: True if it is not to be called with the results of others.
    """

    def __init__(
        self,
        task: Any,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        immutable: bool = False,
        **more: Any,
    ) -> None:
        if isinstance(task, Mapping):
            super().__init__(_read(task))
            return
        name = getattr(task, "name", task)
        if not isinstance(name, str) or not name:
            raise TypeError(f"a signature needs the name of a task, not {name!r}")
        super().__init__(_map(name, _list(args or ()), dict(kwargs or {}), {}, None, immutable))
        self.set(**{**(options or {}), **more})

    @property
    def task(self) -> str:
        """The name of the task; of a canvas the name that Celery has for it, such as ``celery.chain``."""
        return self["task"]

    @property
    def args(self) -> list[Any]:
        """Positional arguments."""
        return self["args"]

    @property
    def kwargs(self) -> dict[str, Any]:
        """Keyword arguments; of a canvas its parts."""
        return self["kwargs"]

    @property
    def options(self) -> dict[str, Any]:
        """Options as ``apply_async`` takes them, with ``link`` and ``link_error``."""
        return self["options"]

    @property
    def immutable(self) -> bool:
        """True if it is not to be called with the results of others."""
        return self["immutable"]

    @property
    def kind(self) -> str | None:
        """``chain``, ``group``, ``chord``, ``chunks``, ``xmap`` or ``xstarmap``; nothing if it is a call of one task."""
        return self["subtask_type"]

    @property
    def tasks(self) -> list[Signature]:
        """The steps of a chain, the members of a group, or those of a chord's header."""
        return self.kwargs[_PARTS[self.kind]] if self.kind in _PARTS else []

    @property
    def body(self) -> Signature | None:
        """What a chord calls with the results of its header."""
        return self.kwargs.get("body") if self.kind == "chord" else None

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Sets options, or changes whether it is immutable. Gives itself."""
        if immutable is not None:
            self._set_immutable(immutable)
        for name, value in options.items():
            if name in ("link", "link_error"):
                value = [Signature(one) for one in ([value] if isinstance(value, Mapping) else value or [])]
                if not value:
                    self.options.pop(name, None)
                    continue
            self.options[name] = value
        return self

    def _set_immutable(self, immutable: bool) -> None:
        if self.kind in ("group", "chord"):
            for task in self.tasks:
                task._set_immutable(immutable)
        # Celery marks the chain, and forgets that when it sends it.
        elif self.kind == "chain":
            for task in self.tasks[:1]:
                task._set_immutable(immutable)
        else:
            self["immutable"] = immutable

    def clone(self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
        """Another one with these arguments as well: positional ones come before its own, keyword arguments and options
        replace its own. An immutable one takes no arguments."""
        other = copy.deepcopy(self)
        if not self.immutable:
            other["args"] = [*args, *other.args]
            if kwargs:
                if self.kind is not None:
                    raise TypeError("only a call of a task has keyword arguments")
                other.kwargs.update(kwargs)
        return other.set(**options)

    partial = clone

    def link(self, callback: Signature) -> Signature:
        """Has another task, or a canvas, called with the result of this one; gives that other one, as Celery does. Of a
        chain it is the result of its last step, of a chord that of its body. A group has no result of its own: as in Celery it
        calls the other without one, when its first task has succeeded."""
        if self.kind == "group":
            if not self.tasks:
                raise ValueError("an empty group has no task that a callback could follow")
            return self.tasks[0].link(_read_one(callback).set(immutable=True))
        if self.kind == "chord":
            if self.body is None:
                raise ValueError("a chord without a body has nothing to follow")
            return self.body.link(callback)
        return self._attach("link", callback)

    def link_error(self, errback: Signature) -> Signature:
        """Has another task called with the id of this one if it fails; gives that other one, as Celery does. Of a group it is
        called with that of each task that fails; of a chord if its body fails or is not called since a task of the header has
        failed."""
        if self.kind == "group":
            for task in self.tasks:
                task.link_error(errback)
        elif self.kind == "chord":
            for task in self.tasks:
                if task.kind == "chord":
                    task.link_error(errback)
            if self.body is not None:
                self.body.link_error(errback)
        else:
            return self._attach("link_error", errback)
        return errback

    def on_error(self, errback: Signature) -> Signature:
        """As ``link_error``, and gives itself."""
        self.link_error(errback)
        return self

    def _attach(self, option: str, other: Signature) -> Signature:
        other = other if isinstance(other, Signature) else Signature(other)
        attached = self.options.setdefault(option, [])
        # As in Celery, one that is there already is not called twice.
        if other not in attached:
            attached.append(other)
        return other

    def stamp(self, **stamps: Any) -> Signature:
        """Marks every task in it and all that hang on them with values under names, by which clients can revoke them. A stamp
        of that name that is there already is replaced. Gives itself."""
        for attached in (*self.options.get("link", ()), *self.options.get("link_error", ())):
            attached.stamp(**stamps)
        if self.kind in _PARTS:
            for task in (*self.tasks, *([self.body] if self.body is not None else ())):
                task.stamp(**stamps)
            return self
        names = [*self.options.get("stamped_headers", ())]
        names += [name for name in stamps if name not in names]
        self.options.update(stamped_headers=names, **stamps)
        return self

    def apply_async(
        self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult:
        """Publishes it now, whatever this task comes to; gives where the result will be. ``Context.publish`` is what waits
        until this task has succeeded."""
        from ._results import apply

        return apply(self.clone((), None, **options) if options else self, now=True, args=args, kwargs=kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult:
        """As ``apply_async``, without options."""
        return self.apply_async(args, kwargs)

    def __or__(self, other: Any) -> Signature:
        if not isinstance(other, Mapping):
            return NotImplemented
        return _join(copy.deepcopy(self), _read_one(other))

    def __ror__(self, other: Any) -> Signature:
        return _join(_read_one(other), copy.deepcopy(self)) if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> Signature:  # type: ignore[override]
        return self | other

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature:
        return _made({name: copy.deepcopy(value, memo) for name, value in self.items()})

    def __repr__(self) -> str:
        if self.kind in ("chain", "group"):
            return f"{self.kind}({', '.join(map(repr, self.tasks))})"
        if self.kind == "chord":
            return f"chord({self.tasks!r}, {self.body!r})"
        if self.kind is not None:
            return f"{self.kind}({self.kwargs.get('task')!r}, {self.kwargs.get('it')!r})"
        given = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.task}({', '.join(given)})"


_PARTS = {"chain": "tasks", "group": "tasks", "chord": "header"}
_TASKS = {
    "chain": "celery.chain",
    "group": "celery.group",
    "chord": "celery.chord",
    "chunks": "celery.chunks",
    "xmap": "celery.map",
    "xstarmap": "celery.starmap",
}


def signature(task: Any, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
    """A call of a task; or a signature of the map that a client made of one."""
    return Signature(task, args, kwargs, **options)


def chain(*tasks: Any) -> Signature:
    """Tasks one after the other, each called with the result of the one before. A group in it makes a chord with what
    follows; a group of one is its member, an empty one is left out."""
    waiting = _several(tasks)
    steps: list[Signature] = []
    while waiting:
        if (no_chain := _append(steps, waiting.pop(0))) is not None:
            for other in waiting:
                no_chain = _join(no_chain, other)
            return no_chain
    return _canvas("chain", {"tasks": steps})


def group(*tasks: Any) -> Signature:
    """Tasks beside each other: ``group(a.s(), b.s())``, or of an iterable: ``group(a.s(n) for n in range(3))``."""
    return _canvas("group", {"tasks": _several(tasks, "group")})


class chord(Signature):
    """Tasks beside each other, and one that is called with the list of their results: ``chord(header, body)``, or as in
    Celery ``chord(header)(body)``, which publishes it now."""

    def __init__(self, header: Any, body: Any = None) -> None:
        tasks = _several((header,), "group", "chain")
        body = None if body is None else _read_one(body)
        dict.__init__(self, _canvas("chord", {"header": tasks, "body": body, "kwargs": {}}))

    def __call__(self, body: Any) -> AsyncResult:
        return chord(self.tasks, body).apply_async()


def chunks(task: Any, it: Iterable[Any], n: int) -> Signature:
    """Calls of one task, each with its list of arguments, ``n`` of them to a message: Celery's ``task.chunks(it, n)``."""
    return _canvas("chunks", {"task": _read_one(task), "it": _list(it), "n": n}, immutable=True)


def xmap(task: Any, it: Iterable[Any]) -> Signature:
    """Calls of one task in one message, each with one argument; gives the list of their results: ``task.map(it)``."""
    return _canvas("xmap", {"task": _read_one(task), "it": _list(it)}, immutable=True)


def xstarmap(task: Any, it: Iterable[Any]) -> Signature:
    """Calls of one task in one message, each with its list of arguments: ``task.starmap(it)``."""
    return _canvas("xstarmap", {"task": _read_one(task), "it": _list(it)}, immutable=True)


def _list(it: Iterable[Any]) -> list[Any]:
    if isinstance(it, (str, bytes, Mapping)):
        raise TypeError(f"arguments are a list or a tuple, not {type(it).__name__}")
    return list(it)


def _canvas(kind: str, parts: dict[str, Any], immutable: bool = False) -> Signature:
    return _made(_map(_TASKS[kind], [], parts, {}, kind, immutable))


def _map(task: str, args: list, kwargs: dict, options: dict, kind: str | None, immutable: bool) -> dict[str, Any]:
    # In the order in which Celery writes it.
    return {
        "task": task, "args": args, "kwargs": kwargs, "options": options, "subtask_type": kind, "immutable": immutable,
    }  # fmt: skip


def _made(fields: dict[str, Any]) -> Signature:
    made = Signature.__new__(chord if fields["subtask_type"] == "chord" else Signature)
    dict.update(made, fields)
    return made


def _read(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Celery's map with all that hangs on it; what is in it is copied."""
    task, kind = fields.get("task"), fields.get("subtask_type")
    if not isinstance(task, str) or not task:
        raise TypeError("not a signature: it names no task")
    if kind is not None and kind not in _TASKS:
        raise TypeError(f"a signature of an unknown kind: {kind!r}")
    read = {**_map(task, [], {}, {}, kind, False), **copy.deepcopy(dict(fields))}
    for name, empty in (("args", []), ("kwargs", {}), ("options", {})):
        given = read[name] if read[name] is not None else empty
        if not isinstance(given, Mapping if isinstance(empty, dict) else (list, tuple)):
            raise TypeError(f"a signature whose {name} are {type(given).__name__}")
        read[name] = type(empty)(given)
    parts, options = read["kwargs"], read["options"]
    if kind in _PARTS:
        if _PARTS[kind] not in parts:
            raise TypeError(f"a {kind} without {_PARTS[kind]}")
        opened = ("group", "chain") if kind == "chord" else ()
        parts[_PARTS[kind]] = _several((parts[_PARTS[kind]],), *opened)
    for name in ("task", "body") if kind is not None else ():
        if parts.get(name) is not None:
            parts[name] = Signature(parts[name])
    for name in ("link", "link_error"):
        if name in options:
            options[name] = _several((options[name] or [],))
    read["immutable"] = read["immutable"] is True
    return read


def _read_one(given: Any) -> Signature:
    """A copy of a signature, of the map that is one, or of a task without arguments."""
    if isinstance(given, Signature):
        return copy.deepcopy(given)
    return _made(Signature(given))


def _several(given: tuple[Any, ...], *opened: str) -> list[Signature]:
    """Signatures that were given one by one, or as one iterable, or as one canvas of the kinds that are opened."""
    if len(given) == 1 and not isinstance(given[0], str):
        only = given[0]
        if isinstance(only, Mapping):
            if only.get("subtask_type") in opened:
                return _read_one(only).tasks
        elif not hasattr(only, "name"):
            given = tuple(only)
    return [_read_one(one) for one in given]


from ._compose import append as _append, join as _join  # noqa: E402  (needs the above)
