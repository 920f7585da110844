"""How arguments reach a function, and what is said of wrong ones."""

import dataclasses
import datetime
import decimal
import enum
import inspect
import unittest
import uuid
from typing import Any, Literal, Optional, TypedDict

from taskhost import Context, Json
from taskhost._bind import Parameters

class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0
    label: Optional[str] = None

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")


class Required(TypedDict):
    width: int


class Options(Required, total=False):
    height: int


def bind(function: Any, args: str = "[]", kwargs: str = "{}") -> Any:
    return Parameters(function, False).bind(args, kwargs, Context("id"))


class Binding(unittest.TestCase):
    def check_like_python(self, function: Any, *args: Any, **kwargs: Any) -> None:
        """The complaint is the one that Python itself has."""
        import json

        with self.assertRaises(TypeError) as ours:
            bind(function, json.dumps(list(args)), json.dumps(kwargs))
        with self.assertRaises(TypeError) as pythons:
            function(*args, **kwargs)
        self.assertEqual(str(ours.exception), str(pythons.exception))

    def test_arguments_come_by_place_and_by_name(self) -> None:
        def page(url, size=10, *more, shown=True, **labels): ...

        self.assertEqual(bind(page, '["u"]'), (["u"], {}))
        self.assertEqual(bind(page, '["u", 1, 2]', '{"shown": false, "a": 1}'), (["u", 1, 2], {"shown": False, "a": 1}))
        self.assertEqual(bind(page, "[]", '{"size": 1, "url": "u"}'), ([], {"size": 1, "url": "u"}))

    def test_wrong_ones_are_complained_of_in_pythons_words(self) -> None:
        def none(): ...
        def one(x): ...
        def two(x, y): ...
        def three(a, b, c): ...
        def some(url, size=1, x=2): ...
        def named(a, *, b, c=1, d): ...
        def placed(a, /, b): ...

        self.check_like_python(two, 1)
        self.check_like_python(two)
        self.check_like_python(three)
        self.check_like_python(three, 1, c=2)
        self.check_like_python(two, 1, 2, 3)
        self.check_like_python(one, 1, 2)
        self.check_like_python(none, 1)
        self.check_like_python(some, 1, 2, 3, 4)
        self.check_like_python(two, 1, 2, z=1)
        self.check_like_python(two, 1, x=1)
        self.check_like_python(named, 1)
        self.check_like_python(named, 1, b=1)
        self.check_like_python(placed, 1)
        self.check_like_python(placed, a=1, b=2)

    def test_the_context_is_no_argument(self) -> None:
        def first(context: Context, x): ...
        def last(x, y=1, context: Context = None): ...
        def quoted(x, *, context: "Context"): ...

        self.assertEqual([type(one) for one in bind(first, "[1]")[0]], [Context, int])
        self.assertEqual(list(bind(last, "[1]")[1]), ["context"])
        self.assertIsInstance(bind(last, "[1, 2]")[0][2], Context)
        self.assertEqual(list(bind(quoted, "[1]")[1]), ["context"])
        with self.assertRaisesRegex(TypeError, "takes 1 positional argument but 2 were given"):
            bind(first, "[1, 2]")
        with self.assertRaisesRegex(TypeError, "unexpected keyword argument 'context'"):
            bind(first, "[1]", '{"context": 1}')

    def test_a_raw_argument_is_its_text(self) -> None:
        def echo(value: Json, *more: Json, n=1, **rest: Json): ...

        text = f'[{{"a": [1.50, NaN]}} , {"9" * 300},"\\ud800" ]'
        given, named = bind(echo, text, '{"n": 2, "x":  1e999, "y": []}')
        self.assertEqual([str(one) for one in given], ['{"a": [1.50, NaN]}', "9" * 300, '"\\ud800"'])
        self.assertEqual((named["n"], named["x"].text, named["y"].text), (2, "1e999", "[]"))


class Checking(unittest.TestCase):
    def check(self, annotation: Any, text: str, expected: Any) -> None:
        def f(x): ...

        f.__annotations__["x"] = annotation
        try:
            found = bind(f, f"[{text}]")[0][0]
        except TypeError as error:
            found = str(error).partition("() argument ")[2]
        self.assertEqual((type(found), found), (type(expected), expected))

    def test_json_types_are_what_they_say(self) -> None:
        self.check(int, "5", 5)
        self.check(int, '"5"', "'x': expected int, got str")
        self.check(int, "true", "'x': expected int, got bool")
        self.check(int, "1.0", "'x': expected int, got float")
        self.check(float, "5", 5)
        self.check(float, "1.5", 1.5)
        self.check(str, "null", "'x': expected str, got None")
        self.check(bool, "0", "'x': expected bool, got int")
        self.check(Any, '"5"', "5")
        self.check(object, "[]", [])
        self.check(inspect.Signature, "[]", [])

    def test_containers_are_checked_inside(self) -> None:
        self.check(list[int], "[1, 2]", [1, 2])
        self.check(list[int], '[1, "2"]', "'x[1]': expected int, got str")
        self.check(list, "{}", "'x': expected list, got dict")
        self.check(dict[str, list[int]], '{"a": [1, null]}', "'x['a'][1]': expected int, got None")
        self.check(tuple[int, str], '[1, "a"]', (1, "a"))
        self.check(tuple[int, str], "[1]", "'x': expected list of 2, got list of 1")
        self.check(tuple[int, ...], "[1, 2, 3]", (1, 2, 3))
        self.check(set[int], "[1, 1]", {1})

    def test_alternatives_are_tried_in_order(self) -> None:
        self.check(Optional[int], "null", None)
        self.check(int | float, "1.5", 1.5)
        self.check(int | float, '"a"', "'x': expected int or float, got str")
        self.check(list[int] | None, "[null]", "'x[0]': expected int, got None")
        self.check(Literal["a", 1], "1", 1)
        self.check(Literal["a", 1], "true", "'x': expected one of 'a', 1, got True")

    def test_classes_are_made_of_objects(self) -> None:
        self.check(Point, '{"x": 1}', Point(1))
        self.check(list[Point], '[{"x": 1, "y": "2"}]', "'x[0].y': expected int, got str")
        self.check(Point, '{"y": 1}', "'x': expected Point, got dict without 'x'")
        self.check(Point, '{"x": 1, "z": 1}', "'x': expected Point, got dict with an unknown 'z'")
        self.check(Point, '{"x": -1}', "'x': x is negative")
        self.check(Options, '{"width": 1}', {"width": 1})
        self.check(Options, "{}", "'x': expected Options, got dict without 'width'")
        self.check(Colour, '"red"', Colour.RED)
        self.check(Colour, '"green"', "'x': expected one of 'red', 'blue', got 'green'")

    def test_what_celerys_clients_wrap_is_unwrapped(self) -> None:
        moment = datetime.datetime(2026, 1, 2, 3, 4, 5)
        self.check(datetime.datetime, '"2026-01-02T03:04:05"', moment)
        self.check(Any, '{"__type__": "datetime", "__value__": "2026-01-02T03:04:05"}', moment)
        self.check(datetime.datetime, '{"__type__": "datetime", "__value__": "2026-01-02T03:04:05"}', moment)
        self.check(datetime.datetime, '"today"', "'x': expected datetime in ISO 8601, got 'today'")
        self.check(decimal.Decimal, '"1.10"', decimal.Decimal("1.10"))
        number = uuid.UUID(int=5)
        self.check(uuid.UUID, f'{{"__type__": "uuid", "__value__": {{"hex": "{number.hex}"}}}}', number)
        self.check(bytes, '{"__type__": "base64", "__value__": "/w=="}', b"\xff")
        self.check(Any, '{"__type__": "moon", "__value__": 1}', {"__type__": "moon", "__value__": 1})


class Schema(unittest.TestCase):
    def test_arguments_are_properties_in_their_order(self) -> None:
        def f(context: Context, a: int, b: "list[str]" = [], *more: int, c: float | None = None, **rest: bool): ...

        self.assertEqual(
            Parameters(f, False).schema(),
            {
                "type": "object",
                "properties": {
                    "a": {"type": "integer"},
                    "b": {"type": "array", "items": {"type": "string"}, "default": []},
                    "c": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
                },
                "required": ["a"],
                "additionalProperties": {"type": "boolean"},
                "x-args": 2,
            },
        )

    def test_classes_are_described_and_what_holds_itself_ends(self) -> None:
        def f(point: Point, colour: Colour, tree: Tree): ...

        schema = Parameters(f, False).schema()
        self.assertEqual(schema["properties"]["colour"], {"enum": ["red", "blue"]})
        self.assertEqual(schema["properties"]["point"]["required"], ["x"])
        self.assertEqual(schema["additionalProperties"], False)
        self.assertNotIn("x-args", schema)


@dataclasses.dataclass
class Tree:
    leaves: "list[Tree]"
