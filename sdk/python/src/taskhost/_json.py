"""JSON as Celery's clients read and write it.

What Python's own ``json`` does is left as it is: integers of any size, NaN and infinities, lone surrogates. Added are the
types that kombu wraps (datetime, date, time, Decimal, UUID, bytes), and text that is to stay as it is.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import os
import uuid
from typing import Any

__all__ = ["Json", "dumps", "elements", "loads", "members"]


class Json:
    """JSON text, byte for byte as it came or is to go.

    A parameter annotated with it gets its argument unparsed; a task that returns one gives its text as the result. It may
    also stand anywhere inside of a result, an argument or a meta.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    @classmethod
    def of(cls, value: Any) -> Json:
        """The text of a value."""
        return cls(dumps(value))

    def value(self) -> Any:
        """What Python makes of the text."""
        return loads(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Json({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, Json) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.text)


def loads(text: str) -> Any:
    """Parses; with what kombu wraps in ``{"__type__": .., "__value__": ..}`` unwrapped, as Celery's workers do."""
    # Most texts hold no such thing, and without a hook the parser is several times faster.
    if '"__type__"' not in text:
        return json.loads(text)
    return json.loads(text, object_hook=_unwrap)


def _unwrap(found: dict[str, Any]) -> Any:
    if found.keys() != {"__type__", "__value__"}:
        return found
    kind = found["__type__"]
    decode = _DECODERS.get(kind) if isinstance(kind, str) else None
    return found if decode is None else decode(found["__value__"])


_DECODERS = {
    "datetime": datetime.datetime.fromisoformat,
    "date": lambda text: datetime.datetime.fromisoformat(text).date(),
    "time": datetime.time.fromisoformat,
    "decimal": decimal.Decimal,
    "uuid": lambda fields: uuid.UUID(**fields),
    "bytes": lambda text: text.encode(),
    "base64": base64.b64decode,
}


def dumps(value: Any) -> str:
    """Writes; a TypeError says what JSON has no form for."""
    kind = type(value)
    if kind is Json:
        return value.text
    writer = _Writer()
    text = writer.encode(value)
    for mark, raw in writer.raw.items():
        text = text.replace(f'"{mark}"', raw)
    return text


class _Writer(json.JSONEncoder):
    """Puts a mark where unparsed text is to stand."""

    def __init__(self) -> None:
        super().__init__()
        self.raw: dict[str, str] = {}

    def default(self, o: Any) -> Any:
        if isinstance(o, Json):
            mark = os.urandom(16).hex()
            self.raw[mark] = o.text
            return mark
        if (reduce := getattr(o, "__json__", None)) is not None and not isinstance(o, type):
            return reduce()
        # A datetime is a date as well, so it comes first.
        if isinstance(o, datetime.datetime):
            return _wrap("datetime", o.isoformat())
        if isinstance(o, datetime.date):
            return _wrap("date", o.isoformat())
        if isinstance(o, datetime.time):
            return _wrap("time", o.isoformat())
        if isinstance(o, decimal.Decimal):
            return _wrap("decimal", str(o))
        if isinstance(o, uuid.UUID):
            return _wrap("uuid", {"hex": o.hex})
        if isinstance(o, (bytes, bytearray, memoryview)):
            return _wrap_bytes(bytes(o))
        if isinstance(o, enum.Enum):
            return o.value
        if dataclasses.is_dataclass(o) and not isinstance(o, type):
            return {field.name: getattr(o, field.name) for field in dataclasses.fields(o)}
        if isinstance(o, (set, frozenset)):
            return list(o)
        raise TypeError(f"Object of type {type(o).__name__} is not JSON serializable")


def _wrap(kind: str, value: Any) -> dict[str, Any]:
    return {"__type__": kind, "__value__": value}


def _wrap_bytes(value: bytes) -> dict[str, Any]:
    try:
        return _wrap("bytes", value.decode())
    except UnicodeDecodeError:
        return _wrap("base64", base64.b64encode(value).decode())


_scan = json.JSONDecoder().scan_once
_SPACE = " \t\n\r"


def elements(text: str) -> list[Json]:
    """The elements of an array, unparsed."""
    found, at = [], _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        start, at = at, _scan(text, at)[1]
        found.append(Json(text[start:at]))
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def members(text: str) -> dict[str, Json]:
    """The members of an object, their values unparsed. Of two with the same name the last counts."""
    found, at = {}, _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        name, at = _scan(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, at = _scan(text, start)
        found[name] = Json(text[start:at])
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
