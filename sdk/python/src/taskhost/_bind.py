"""Binds the arguments of a call to the parameters of a function by Python's rules, and complains in Python's words."""

from __future__ import annotations

import inspect
from typing import Any, Callable

from . import _types
from ._context import Context
from ._json import Json, elements, loads, members

__all__ = ["Parameters"]

_MISSING = inspect.Parameter.empty


class Parameters:
    """The parameters of a task's function."""

    def __init__(self, function: Callable[..., Any], bound: bool) -> None:
        self.name = function.__qualname__
        self.code = getattr(inspect.unwrap(function), "__code__", None)
        self.positional: list[str] = []
        self.only_by_name: list[str] = []
        self.only_by_place: set[str] = set()
        self.args: str | None = None
        self.kwargs: str | None = None
        self.context: str | None = None
        self.context_at: int | None = None
        self.defaults: dict[str, Any] = {}
        self.types: dict[str, _types.Type] = {}
        hints = _types.hints(function)
        found = list(inspect.signature(function).parameters.values())
        if bound:
            if not found or found[0].kind not in (found[0].POSITIONAL_ONLY, found[0].POSITIONAL_OR_KEYWORD):
                raise TypeError(f"{self.name}() is bound and has no parameter for the task: `def {self.name}(self, ..)`")
            del found[0]
        for parameter in found:
            self._add(parameter, hints.get(parameter.name, _MISSING if isinstance(parameter.annotation, str) else parameter.annotation))
        self.required = [name for name in (*self.positional, *self.only_by_name) if name not in self.defaults]
        self.checks = {name: of for name, of in self.types.items() if of.convert is not None}
        self.raw = any(of.raw for of in self.types.values())

    def _add(self, parameter: inspect.Parameter, annotation: Any) -> None:
        name = parameter.name
        if annotation is Context or parameter.annotation in ("Context", "taskhost.Context"):
            if self.context is not None:
                raise TypeError(f"{self.name}() has two parameters for the context: {self.context!r} and {name!r}")
            self.context = name
            if parameter.kind is not parameter.KEYWORD_ONLY:
                self.context_at = len(self.positional)
            return
        self.types[name] = _types.Type() if annotation is _MISSING else _types.of(annotation)
        if parameter.kind is parameter.VAR_POSITIONAL:
            self.args = name
        elif parameter.kind is parameter.VAR_KEYWORD:
            self.kwargs = name
        else:
            (self.only_by_name if parameter.kind is parameter.KEYWORD_ONLY else self.positional).append(name)
            if parameter.kind is parameter.POSITIONAL_ONLY:
                self.only_by_place.add(name)
            if parameter.default is not _MISSING:
                self.defaults[name] = parameter.default

    def schema(self) -> dict[str, Any]:
        """An object with a property for each argument, in the order in which they are given by position. Schemas have no word
        for further positional ones: ``x-args`` says how many properties stand before them."""
        names = (*self.positional, *self.only_by_name)
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: _types.with_default(self.types[name].schema, self.defaults, name) for name in names},
            "required": self.required,
            "additionalProperties": False if self.kwargs is None else self.types[self.kwargs].schema or True,
        }
        # Those that can be given by name alone stand behind any number of positional ones; without `*args` that is none.
        if self.args is not None:
            schema["x-args"] = len(self.positional)
        return schema

    def bind(self, args: str, kwargs: str, context: Context) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with, for arguments as JSON."""
        if self.raw:
            given, named = self._parse_some(args, kwargs)
        else:
            given = [] if args == "[]" else loads(args)
            named = {} if kwargs == "{}" else loads(kwargs)
        self._complain(given, named)
        if self.checks:
            self._check(given, named)
        if self.context is not None:
            if self.context_at is None or len(given) < self.context_at:
                named[self.context] = context
            else:
                given.insert(self.context_at, context)
        return given, named

    def _parse_some(self, args: str, kwargs: str) -> tuple[list[Any], dict[str, Any]]:
        def parse(name: str | None, text: Json) -> Any:
            return text if name is not None and self.types[name].raw else text.value()

        count = len(self.positional)
        given = [
            parse(self.positional[at] if at < count else self.args, text) for at, text in enumerate(elements(args))
        ]
        named = {name: parse(name if name in self.types else self.kwargs, text) for name, text in members(kwargs).items()}
        return given, named

    # The order of the checks is CPython's: keywords, surplus, missing.
    def _complain(self, given: list[Any], named: dict[str, Any]) -> None:
        reached = self.positional[: len(given)]
        for name in named:
            known = name in self.types and name not in (self.args, self.kwargs)
            if known and name not in self.only_by_place:
                if name in reached:
                    self._fail(f"got multiple values for argument '{name}'")
            elif self.kwargs is None:
                if known:
                    self._fail(f"got some positional-only arguments passed as keyword arguments: '{name}'")
                self._fail(f"got an unexpected keyword argument '{name}'")
            elif name == self.context:
                self._fail(f"got an unexpected keyword argument '{name}'")
        if len(given) > len(self.positional) and self.args is None:
            self._fail_surplus(len(given))
        if len(given) < len(self.required) or self.only_by_name:
            self._find_missing(reached, named)

    def _find_missing(self, reached: list[str], named: dict[str, Any]) -> None:
        missing = [name for name in self.required if name not in reached and name not in named]
        for kind, names in (("positional", self.positional), ("keyword-only", self.only_by_name)):
            quoted = [f"'{name}'" for name in missing if name in names]
            if not quoted:
                continue
            *most, last = quoted
            several = f"{', '.join(most)}{',' if len(most) > 1 else ''} and {last}" if most else last
            self._fail(f"missing {len(quoted)} required {kind} argument{'s' if most else ''}: {several}")

    def _fail_surplus(self, count: int) -> None:
        most = len(self.positional)
        least = sum(name in self.required for name in self.positional)
        takes = str(most) if least == most else f"from {least} to {most}"
        were = "was" if count == 1 else "were"
        self._fail(f"takes {takes} positional argument{'' if most == 1 else 's'} but {count} {were} given")

    def _check(self, given: list[Any], named: dict[str, Any]) -> None:
        count = len(self.positional)
        for at, value in enumerate(given):
            if (wanted := self.checks.get(self.positional[at] if at < count else self.args or "")) is not None:
                given[at] = self._convert(wanted, value, self.positional[at] if at < count else f"{self.args}[{at - count}]")
        for name, value in named.items():
            known = name in self.types and name not in (self.args, self.kwargs, *self.only_by_place)
            if (wanted := self.checks.get(name if known else self.kwargs or "")) is not None:
                named[name] = self._convert(wanted, value, name)

    def _convert(self, wanted: _types.Type, value: Any, name: str) -> Any:
        try:
            return wanted.convert(value)  # type: ignore[misc]
        except _types.Mismatch as mismatch:
            self._fail(f"argument '{name}{mismatch.path}': {mismatch}")
        except (TypeError, ValueError) as error:  # a dataclass that checks its fields
            self._fail(f"argument '{name}': {error}")

    def _fail(self, what: str) -> Any:
        error = TypeError(f"{self.name}() {what}")
        # There is no line of the task to blame, so the traceback points at where it begins.
        error.function = self.code  # type: ignore[attr-defined]
        raise error from None
