"""What an annotation says of an argument: a JSON Schema, and a check that may make something of it.

Checked are the types that JSON has, what ``typing`` combines of them, enums, dataclasses, typed dictionaries and what kombu
wraps. Any other annotation accepts everything.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import types
import typing
import uuid
from collections import abc
from typing import Any, Callable

from ._json import Json, dumps

__all__ = ["Mismatch", "Type", "of"]

Schema = dict[str, Any]
Convert = Callable[[Any], Any]

# What is nested deeper accepts everything, as a dataclass may be made of itself.
_DEPTH_MAX = 12


class Mismatch(Exception):
    """A value is not of the type that is wanted."""

    def __init__(self, expected: str, value: Any) -> None:
        self.path = ""
        self.expected = expected
        self.got = "None" if value is None else type(value).__name__

    def under(self, step: str) -> Mismatch:
        self.path = step + self.path
        return self

    def __str__(self) -> str:
        return f"expected {self.expected}, got {self.got}"


class Type:
    """What an annotation comes to."""

    __slots__ = ("convert", "raw", "schema")

    def __init__(self, schema: Schema | None = None, convert: Convert | None = None, raw: bool = False) -> None:
        self.schema = schema or {}
        self.convert = convert
        """Gives the argument, or raises a Mismatch; none if there is nothing to check."""
        self.raw = raw
        """The argument is wanted as text."""


def of(annotation: Any, depth: int = _DEPTH_MAX) -> Type:
    """What an annotation comes to."""
    if annotation is Json:
        return Type(raw=True)
    if depth == 0 or isinstance(annotation, (str, typing.ForwardRef, typing.TypeVar)):
        return Type()
    if annotation is None or annotation is type(None):
        return Type({"type": "null"}, _exactly("None", type(None)))
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated or origin in (typing.ClassVar, typing.Final) or _is_field(origin):
        return of(typing.get_args(annotation)[0], depth)
    if origin in (typing.Union, types.UnionType):
        return _union(typing.get_args(annotation), depth)
    if origin is typing.Literal:
        return _literal(typing.get_args(annotation))
    if origin is not None:
        return _container(origin, typing.get_args(annotation), depth - 1)
    if hasattr(annotation, "__value__"):  # what `type X = ..` makes
        return of(annotation.__value__, depth)
    if hasattr(annotation, "__supertype__"):  # a NewType
        return of(annotation.__supertype__, depth)
    if not isinstance(annotation, type):
        return Type()
    return _class(annotation, depth)


def _is_field(origin: Any) -> bool:
    return getattr(origin, "_name", None) in ("Required", "NotRequired", "ReadOnly")


def _class(wanted: type, depth: int) -> Type:
    if wanted in _PLAIN:
        return _PLAIN[wanted]
    if wanted in _CONTAINERS:
        return _container(wanted, (), depth - 1)
    if issubclass(wanted, enum.Enum):
        return _enum(wanted)
    if typing.is_typeddict(wanted):
        return _typed_dict(wanted, depth - 1)
    if dataclasses.is_dataclass(wanted):
        return _dataclass(wanted, depth - 1)
    return Type()


def _exactly(expected: str, *kinds: type) -> Convert:
    def convert(value: Any) -> Any:
        # A bool is an int for Python and none for JSON.
        if type(value) in kinds:
            return value
        raise Mismatch(expected, value)

    return convert


def _parsed(wanted: type, expected: str, parse: Convert, *kinds: type) -> Convert:
    """Accepts what kombu has unwrapped, and what the type can be read from."""

    def convert(value: Any) -> Any:
        if type(value) is wanted:
            return value
        if type(value) not in kinds:
            raise Mismatch(expected, value)
        try:
            return parse(value)
        except (ValueError, ArithmeticError):
            mismatch = Mismatch(expected, value)
            mismatch.got = repr(value)
            raise mismatch from None

    return convert


_PLAIN: dict[type, Type] = {
    object: Type(),
    bool: Type({"type": "boolean"}, _exactly("bool", bool)),
    int: Type({"type": "integer"}, _exactly("int", int)),
    float: Type({"type": "number"}, _exactly("float", float, int)),
    str: Type({"type": "string"}, _exactly("str", str)),
    bytes: Type(None, _parsed(bytes, "bytes", str.encode, str)),
    datetime.datetime: Type(
        {"type": "string", "format": "date-time"},
        _parsed(datetime.datetime, "datetime in ISO 8601", datetime.datetime.fromisoformat, str),
    ),
    datetime.date: Type(
        {"type": "string", "format": "date"},
        _parsed(datetime.date, "date in ISO 8601", lambda text: datetime.date.fromisoformat(text), str),
    ),
    datetime.time: Type(
        {"type": "string", "format": "time"},
        _parsed(datetime.time, "time in ISO 8601", datetime.time.fromisoformat, str),
    ),
    decimal.Decimal: Type(None, _parsed(decimal.Decimal, "Decimal", decimal.Decimal, str, int)),
    uuid.UUID: Type({"type": "string", "format": "uuid"}, _parsed(uuid.UUID, "UUID", uuid.UUID, str)),
}

_CONTAINERS = (list, tuple, set, frozenset, dict)


def _container(origin: Any, parts: tuple[Any, ...], depth: int) -> Type:
    if origin in (tuple,) and parts and not (len(parts) == 2 and parts[1] is ...):
        return _tuple(() if parts == ((),) else parts, depth)
    if origin in (list, tuple, set, frozenset, abc.Sequence, abc.Iterable, abc.Collection, abc.MutableSequence, abc.Set):
        make = {tuple: tuple, set: set, frozenset: frozenset, abc.Set: set}.get(origin)
        return _list(of(parts[0], depth) if parts else Type(), make)
    if origin in (dict, abc.Mapping, abc.MutableMapping):
        return _dict(of(parts[1], depth) if len(parts) == 2 else Type())
    return Type()


def _list(element: Type, make: Callable[[list], Any] | None) -> Type:
    def convert(value: Any) -> Any:
        if type(value) is not list:
            raise Mismatch("list", value)
        if element.convert is not None:
            value = [_at(element.convert, one, f"[{index}]") for index, one in enumerate(value)]
        return value if make is None else make(value)

    schema = {"type": "array", **({"items": element.schema} if element.schema else {})}
    return Type(schema, convert)


def _tuple(parts: tuple[Any, ...], depth: int) -> Type:
    elements = [of(part, depth) for part in parts]

    def convert(value: Any) -> Any:
        if type(value) is not list or len(value) != len(elements):
            mismatch = Mismatch(f"list of {len(elements)}", value)
            mismatch.got = f"list of {len(value)}" if type(value) is list else mismatch.got
            raise mismatch
        pairs = enumerate(zip(elements, value))
        return tuple(one if of.convert is None else _at(of.convert, one, f"[{at}]") for at, (of, one) in pairs)

    schema = {"type": "array", "prefixItems": [element.schema for element in elements], "items": False}
    return Type(schema, convert)


def _dict(values: Type) -> Type:
    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch("dict", value)
        if values.convert is None:
            return value
        return {name: _at(values.convert, one, f"[{name!r}]") for name, one in value.items()}

    schema = {"type": "object", **({"additionalProperties": values.schema} if values.schema else {})}
    return Type(schema, convert)


def _union(parts: tuple[Any, ...], depth: int) -> Type:
    members = [of(part, depth) for part in parts]
    if any(member.convert is None for member in members):
        return Type()

    def convert(value: Any) -> Any:
        mismatches = []
        for member in members:
            try:
                return member.convert(value)  # type: ignore[misc]
            except Mismatch as mismatch:
                mismatches.append(mismatch)
        # The member that was understood furthest has the most to say.
        deepest = max(mismatches, key=lambda mismatch: len(mismatch.path))
        if not deepest.path:
            deepest.expected = " or ".join(dict.fromkeys(mismatch.expected for mismatch in mismatches))
        raise deepest

    return Type({"anyOf": [member.schema for member in members]}, convert)


def _literal(values: tuple[Any, ...]) -> Type:
    allowed = [(type(value), value) for value in values]
    expected = "one of " + ", ".join(map(repr, values))

    def convert(value: Any) -> Any:
        if (type(value), value) in allowed:
            return value
        mismatch = Mismatch(expected, value)
        mismatch.got = repr(value)
        raise mismatch

    return Type({"enum": list(values)}, convert)


def _enum(wanted: type[enum.Enum]) -> Type:
    values = [member.value for member in wanted]
    expected = "one of " + ", ".join(map(repr, values))

    def convert(value: Any) -> Any:
        for member in wanted:
            if type(member.value) is type(value) and member.value == value:
                return member
        mismatch = Mismatch(expected, value)
        mismatch.got = repr(value)
        raise mismatch

    return Type({"enum": values} if _is_json(values) else None, convert)


def _typed_dict(wanted: Any, depth: int) -> Type:
    required = sorted(wanted.__required_keys__)
    return _record(wanted.__name__, hints(wanted), required, {}, dict, depth)


def _dataclass(wanted: Any, depth: int) -> Type:
    known, fields, required, defaults = hints(wanted), {}, [], {}
    for field in dataclasses.fields(wanted):
        if not field.init:
            continue
        fields[field.name] = known.get(field.name, field.type)
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is dataclasses.MISSING:
            required.append(field.name)
    return _record(wanted.__name__, fields, required, defaults, lambda given: wanted(**given), depth)


def _record(
    name: str, fields: dict[str, Any], required: list[str], defaults: dict[str, Any], make: Convert, depth: int
) -> Type:
    members = {field: of(annotation, depth) for field, annotation in fields.items()}
    properties = {field: with_default(member.schema, defaults, field) for field, member in members.items()}

    def convert(value: Any) -> Any:
        if type(value) is not dict:
            raise Mismatch(name, value)
        given = {}
        for field, one in value.items():
            if field not in members:
                raise _told(name, f"dict with an unknown {field!r}")
            member = members[field]
            if member.raw:
                one = Json.of(one)
            given[field] = one if member.convert is None else _at(member.convert, one, f".{field}")
        if missing := [field for field in required if field not in value]:
            raise _told(name, f"dict without {missing[0]!r}")
        return make(given)

    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return Type(schema, convert)


def _told(expected: str, got: str) -> Mismatch:
    mismatch = Mismatch(expected, None)
    mismatch.got = got
    return mismatch


def _at(convert: Convert, value: Any, step: str) -> Any:
    try:
        return convert(value)
    except Mismatch as mismatch:
        raise mismatch.under(step) from None


def with_default(schema: Schema, defaults: abc.Mapping[str, Any], name: str) -> Schema:
    """The schema, with the default of that name if it has one that JSON can hold."""
    if name not in defaults or not _is_json(defaults[name]):
        return schema
    return {**schema, "default": defaults[name]}


def _is_json(value: Any) -> bool:
    try:
        dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def hints(annotated: Any) -> dict[str, Any]:
    """Annotations by name, those in quotes evaluated. What cannot be evaluated is left out."""
    try:
        return typing.get_type_hints(annotated)
    except Exception:
        found = getattr(annotated, "__annotations__", {})
        scope = getattr(annotated, "__globals__", {})
        known = {}
        for name, annotation in found.items():
            try:
                known[name] = eval(annotation, scope) if isinstance(annotation, str) else annotation
            except Exception:
                continue  # a name that only type checkers know
        return known
