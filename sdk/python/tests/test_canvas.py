"""Canvases are composed as Celery composes them."""

import json
import sys
import unittest
from pathlib import Path

from taskhost import Json, Signature, chain, chord, group, signature, task, xmap
from taskhost._json import dumps, loads

REPOSITORY = Path(__file__).parents[3]


def draw(one: Signature) -> str:
    """The shape of a canvas in one line: `<a | b>`, `(a, b)` for a group, `[a, b -> c]` for a chord. What hangs on a task is
    behind it: `a+callback!errback`, and `'` says that it is immutable."""
    inside = ", ".join(map(draw, one.tasks))
    drawn = {
        None: one.task,
        "chain": f"<{' | '.join(map(draw, one.tasks))}>",
        "group": f"({inside})",
        "chord": f"[{inside} -> {draw(one.body) if one.body is not None else 'nothing'}]",
    }.get(one.kind, "each")
    drawn += "'" if one.immutable else ""
    for sign, option in (("+", "link"), ("!", "link_error")):
        drawn += "".join(sign + draw(attached) for attached in one.options.get(option, ()))
    return drawn


class Composing(unittest.TestCase):
    def check(self, one: Signature, expected: str) -> None:
        self.assertEqual(draw(one), expected)
        self.assertEqual(Signature(loads(dumps(one))), one, "it comes back as it was")

    def test_tasks_are_composed_by_celerys_rules(self) -> None:
        a, b, c, d, e, x, y = map(signature, "abcdexy")

        def both() -> Signature:
            return group(x, y)

        empty, lone = group(), group(x)
        self.check(a | b | c, "<a | b | c>")
        self.check(a | (b | c), "<a | b | c>")
        self.check(a | both(), "<a | (x, y)>")
        self.check(a | both() | b, "<a | [x, y -> b]>")
        self.check(a | both() | b | c, "<a | [x, y -> <b | c>]>")
        self.check(a | both() | both(), "<a | (x, y) | (x, y)>")
        self.check(both() | a, "[x, y -> a]")
        self.check(both() | a | b, "[x, y -> <a | b>]")
        self.check(both() | both(), "[x, y -> (x, y)]")
        self.check(both() | both() | a, "[x, y -> [x, y -> a]]")
        self.check(a | lone | b, "<a | x | b>")
        self.check(a | empty, "a")
        self.check(a | empty | b, "<a | b>")
        self.check(chord([x], a) | lone, "[x -> <a | x>]")
        self.check(chord([x], a) | both(), "<[x -> a] | (x, y)>")
        self.check(chord([x], a) | (b | c), "<[x -> a] | b | c>")
        self.check(a | chord([x], b) | chord([y], c), "<a | [x -> b] | [y -> c]>")
        self.check(chain(), "<>")
        self.check(chain(a), "<a>")
        self.check(chain([a, b]), "<a | b>")
        self.check(chain(both()), "(x, y)")
        self.check(chain(both(), a, b), "[x, y -> <a | b>]")
        self.check(chain(a, both(), b, both(), c), "<a | [x, y -> <b | [x, y -> c]>]>")
        self.check(chain(a, chain(b, both()), c, d), "<a | b | [x, y -> <c | d>]>")
        self.check(chain(empty, chain(both(), a), e), "<[x, y -> <a | e>]>")
        self.check(chord(group(a, b), c), "[a, b -> c]")
        self.check(chord(d, e), "[d -> e]")
        self.check(group(group(a, b)), "(a, b)")
        self.check(group(a | b), "(<a | b>)")
        self.check(group(one for one in (a, b)), "(a, b)")

    def test_what_is_composed_is_a_copy(self) -> None:
        a, b = signature("a"), signature("b")
        both = a | b
        both.tasks[0].set(queue="slow")
        both.tasks[1].link(a)
        self.assertEqual((a.options, b.options), ({}, {}))

    def test_what_hangs_on_a_canvas_hangs_where_celery_hangs_it(self) -> None:
        a, b, c, k, e = map(signature, "abcke")

        def hung(canvas: Signature) -> Signature:
            canvas.link(k)
            return canvas.on_error(e).on_error(e)

        self.check(hung(a.clone()), "a+k!e")
        self.check(hung(a | b), "<a | b>+k!e")
        self.check(hung(a | b) | c, "<a!e | b+k!e | c>")
        self.check(hung(group(a, b)), "(a+k'!e, b!e)")
        self.check(hung(chord([a, chord([b], c)], c)), "[a, [b -> c!e] -> c+k!e]")
        self.assertIs(a.link(k), k, "as in Celery, for chaining")
        with self.assertRaisesRegex(ValueError, "an empty group"):
            group().link(k)

    def test_immutable_is_what_would_get_the_arguments(self) -> None:
        a, b, c = map(signature, "abc")
        self.check(a.clone().set(immutable=True), "a'")
        self.check((a | b).set(immutable=True), "<a' | b>")
        self.check(group(a, b).set(immutable=True), "(a', b')")
        self.check(chord([a], b).set(immutable=True), "[a' -> b]")
        self.assertEqual(Signature("c", (3,)).clone((1, None)).args, [1, None, 3])
        self.assertEqual(Signature("c", (3,), immutable=True).clone((1,)).args, [3])

    def test_a_stamp_is_on_every_task(self) -> None:
        a, b, c, k = map(signature, "abck")
        a.link(k)
        canvas = chain(a, chord([b.stamp(run=0)], c)).stamp(run=1, tenant="acme")
        first, second = canvas.tasks
        for one in (first, first.options["link"][0], second.tasks[0], second.body):
            found = [one.options[name] for name in ("stamped_headers", "run", "tenant")]
            self.assertEqual(found, [["run", "tenant"], 1, "acme"], one)
        self.assertEqual((canvas.options, second.options), ({}, {}), "a canvas is sent nowhere itself")

    def test_a_signature_of_somebody_else_keeps_what_it_has(self) -> None:
        frozen = {
            "task": "celery.chord", "args": [], "options": {"link": {"task": "k"}}, "subtask_type": "chord",
            "kwargs": {"header": {"task": "celery.group", "kwargs": {"tasks": [{"task": "a", "chord_size": 3}]},
                                  "subtask_type": "group"}, "body": None},
        }  # fmt: skip
        read = Signature(frozen)
        self.assertEqual(draw(read), "[a -> nothing]+k")
        self.assertEqual(read.tasks[0]["chord_size"], 3)
        text = f'{{"task": "t", "args": [NaN, {"9" * 300}], "kwargs": {{"a": "\\ud800"}}, "options": {{"x": -Infinity}}, "subtask_type": null, "immutable": true}}'
        self.assertEqual(dumps(Signature(json.loads(text))), text)

    def test_what_is_no_signature_is_refused(self) -> None:
        for given, expected in (
            ({}, "not a signature: it names no task"),
            ({"task": 1}, "not a signature: it names no task"),
            ({"task": "t", "subtask_type": "ring"}, "a signature of an unknown kind: 'ring'"),
            ({"task": "t", "args": {}}, "a signature whose args are dict"),
            ({"task": "celery.chain", "subtask_type": "chain"}, "a chain without tasks"),
            (5, "a signature needs the name of a task, not 5"),
        ):
            with self.assertRaises(TypeError) as refused:
                Signature(given)
            self.assertEqual(str(refused.exception), expected)
        with self.assertRaisesRegex(TypeError, "arguments are a list or a tuple, not str"):
            Signature("t", "abc")
        with self.assertRaisesRegex(TypeError, "arguments are a list or a tuple, not dict"):
            xmap("t", {"a": 1})

    def test_a_task_makes_signatures_of_itself(self) -> None:
        @task(name="canvas.one")
        def one(x, y): ...

        self.assertEqual(one.s(1, y=2), Signature("canvas.one", (1,), {"y": 2}))
        self.assertEqual(one.si(1), Signature("canvas.one", (1,), immutable=True))
        self.assertEqual(repr(one.s(1) | one.signature((2,), queue="slow")), "chain(canvas.one(1), canvas.one(2))")
        self.assertEqual(one.chunks([(1, 2)], 5)["kwargs"]["n"], 5)
        self.assertEqual(group(one, one).tasks[0], one.s())
        self.assertEqual(dumps(one.s(Json("1.50"))), dumps(one.s(0)).replace("[0]", "[1.50]"))

    def test_the_contracts_canvases_are_those_of_celery(self) -> None:
        expected = REPOSITORY / "tests/fixtures/contract/compose.json"
        if not expected.exists():
            self.skipTest("only in a checkout of the repository")
        sys.path.insert(0, str(REPOSITORY / "tests/guests/contract/python"))
        self.addCleanup(sys.path.pop, 0)
        import compose

        for name, canvas in json.loads(expected.read_text()).items():
            with self.subTest(name):
                self.assertEqual(json.loads(dumps(compose.named(name))), canvas)
