"""Tasks as a host calls them."""

import logging
import unittest
from pathlib import Path
from typing import Any

from taskhost import (
    AsyncResult,
    Bucket,
    Context,
    Ignore,
    Json,
    PublishError,
    PublishUnavailable,
    Reject,
    Replace,
    ResultTimedOut,
    ResultUnpublished,
    Retry,
    Signature,
    TaskError,
    UpdateError,
    chord,
    config,
    current_context,
    secret,
    task,
)
from taskhost import _options
from taskhost._guest import described
from taskhost._json import dumps, loads
from taskhost._log import HostHandler
from taskhost.testing import Ended, FakeHost

REPOSITORY = Path(__file__).parents[3]


class Own(Exception):
    pass


@task(name="t.end")
def end(how: str) -> None:
    """Ends in some way.

    Not in the summary.
    """
    match how:
        case "own":
            deeper()
        case "chosen":
            raise TaskError("ValueError", "bad", 42)
        case "chained":
            try:
                raise KeyError("inner")
            except KeyError as error:
                raise TaskError("shop.Full", "outer", module=None) from error
        case "empty":
            raise Own
        case "exit":
            raise SystemExit(3)
        case "object":
            raise Own(object, {1, 2}, {"a": b"x"})
        case "reject":
            raise Reject("why", requeue=True)
        case "ignore":
            raise Ignore
        case "replace":
            raise Replace(Signature("t.other"))
        case "unwritable":
            raise Retry(args=[object()])
        case "cause":
            try:
                raise ConnectionError("gone")
            except ConnectionError:
                raise Retry(countdown=5, max_retries=9, args=[1], kwargs={"a": 2})


def deeper() -> None:
    raise Own("trouble")


@task(name="t.bound", bind=True, max_retries=7, autoretry_for=(OSError, Own, "Other"))
def bound(self, how: str = "") -> Any:
    match how:
        case "retry":
            try:
                raise ValueError("first")
            except ValueError as exc:
                raise self.retry(exc=exc, countdown=1)
        case "replace":
            self.replace(end.s("x"))
        case "update":
            self.update_state(state="HALF", meta={"a": 1})
            self.send_event("task-half", n=1)
        case "delay":
            return [end.delay("x"), end.apply_async(("y",), countdown=3)]
    return [self.request.id, self.request.retries, self.request.root_id, self.request.get("none"), self.max_retries]


@task(name="t.use")
def use(context: Context, what: str) -> Any:
    match what:
        case "publish":
            return [context.publish(end.s("a")), context.publish_now(end.s("b"))]
        case "apply":
            return context.apply(chord([end.s("a")], end.s()))
        case "chord":
            return context.add_to_chord(end.s("a"))
        case "lent":
            return [config("region"), secret("key")]
        case "bucket":
            bucket = Bucket("cache")
            bucket.set("k", "v")
            grown = bucket.update("k", lambda value: value + b"w")
            return [bucket.get("k").decode(), grown, bucket.increment("n", 2), bucket.keys(), "z" in bucket]
        case "progress":
            context.progress(1, 2)
            context.update_state("SUCCESS", {})
        case "self":
            return [context.remaining(), context.cancelled(), current_context() is context]
        case "forget":
            return context.wait(context.publish(end.s("a")), 1)
        case "ask":
            return AsyncResult("known").get(timeout=1)


class Ends(unittest.TestCase):
    def ended(self, given: Any, *args: Any, **kwargs: Any) -> Ended:
        with self.assertRaises(Ended) as caught:
            FakeHost().call(given, *args, **kwargs)
        return caught.exception

    def test_an_exception_is_told_with_its_class_and_its_arguments(self) -> None:
        own = self.ended(end, "own")
        self.assertEqual((own.kind, own.exc_type, own.exc_module, own.arguments), ("failed", "Own", __name__, ["trouble"]))
        empty = self.ended(end, "empty")
        self.assertEqual((empty.exc_type, empty.arguments), ("Own", []))
        chosen = self.ended(end, "chosen")
        self.assertEqual((chosen.exc_type, chosen.exc_module, chosen.arguments), ("ValueError", "builtins", ["bad", 42]))
        odd = self.ended(end, "object")
        self.assertEqual(odd.arguments, ["<class 'object'>", [1, 2], {"a": b"x"}])
        unknown = self.ended("t.nobody")
        self.assertEqual((unknown.exc_type, unknown.exc_module), ("NotRegistered", "celery.exceptions"))

    def test_a_client_is_never_made_to_exit(self) -> None:
        stopped = self.ended(end, "exit")
        self.assertEqual((stopped.exc_type, stopped.exc_module, stopped.arguments), ("SystemExit", None, [3]))

    def test_a_traceback_is_pythons_and_shows_nothing_of_the_package(self) -> None:
        text = self.ended(end, "own").traceback
        self.assertTrue(text.startswith("Traceback (most recent call last):\n  File "), text)
        self.assertIn(", in end\n    deeper()\n", text)
        self.assertIn(', in deeper\n    raise Own("trouble")\n', text)
        self.assertTrue(text.endswith("test_tasks.Own: trouble\n"), text)
        self.assertNotIn("/src/taskhost/", text)

    def test_a_traceback_has_causes_and_the_class_that_was_chosen(self) -> None:
        text = self.ended(end, "chained").traceback
        self.assertIn("KeyError: 'inner'\n\nThe above exception was the direct cause of the following exception:\n", text)
        self.assertTrue(text.endswith("shop.Full: outer\n"), text)

    def test_wrong_arguments_point_at_the_function(self) -> None:
        failed = self.ended(end)
        self.assertEqual(failed.arguments, ["end() missing 1 required positional argument: 'how'"])
        self.assertRegex(failed.traceback, r'File ".*test_tasks.py", line \d+, in end\n')

    def test_a_retry_has_what_was_being_handled_as_its_cause(self) -> None:
        retry = self.ended(end, "cause")
        found = (retry.kind, retry.exc_type, retry.countdown, retry.max_retries, retry.args_again, retry.kwargs_again)
        self.assertEqual(found, ("retry", "ConnectionError", 5.0, 9, [1], {"a": 2}))
        bound_one = self.ended(bound, "retry")
        self.assertEqual((bound_one.kind, bound_one.exc_type, bound_one.arguments), ("retry", "ValueError", ["first"]))
        self.assertIsNone(bound_one.max_retries, "it is the task's own limit")

    def test_the_other_ends_are_what_they_say(self) -> None:
        self.assertTrue(self.ended(end, "reject").requeue)
        self.assertEqual(self.ended(end, "ignore").kind, "ignore")
        self.assertEqual(self.ended(end, "replace").signature, Signature("t.other"))
        self.assertEqual(self.ended(bound, "replace").signature, end.s("x"))
        broken = self.ended(end, "unwritable")
        self.assertEqual((broken.kind, broken.exc_type), ("failed", "TypeError"))

    def test_a_result_that_is_no_json_is_a_type_error(self) -> None:
        @task(name="t.odd")
        def odd():
            return object()

        self.assertEqual(self.ended(odd).arguments, ["Object of type object is not JSON serializable"])


class Surroundings(unittest.TestCase):
    def test_a_bound_task_has_celerys_methods(self) -> None:
        with FakeHost(request={"root_id": "r"}) as host:
            self.assertEqual(host.call_again(bound, 3), ["id-0", 3, "r", None, 7])
            host.call(bound, "update")
            self.assertEqual((host.states, host.events), ([("HALF", {"a": 1})], [("task-half", {"n": 1})]))
            self.assertEqual(host.call(bound, "delay"), [[["id-1", None], None], [["id-2", None], None]])
            self.assertEqual([one["args"] for one in host.published_now], [["x"], ["y"]])
            self.assertEqual(host.published_now[1]["options"], {"countdown": 3})
        self.assertEqual(bound("")[:2], ["", 0], "called from Python it is a function")
        self.assertTrue(bound.request.called_directly)
        self.assertIs(bound.acks_late, None)
        with self.assertRaises(AttributeError):
            bound.nonsense

    def test_a_task_calls_others(self) -> None:
        with FakeHost() as host:
            self.assertEqual(host.call(use, "publish"), ["id-1", "id-2"])
            self.assertEqual((host.published, host.published_now), ([end.s("a")], [end.s("b")]))
            self.assertEqual(host.call(use, "apply"), [["id-3", None], None])
            with self.assertRaisesRegex(Ended, "is not member of any chord"):
                host.call(use, "chord")
            host.facts["chord"] = {"task": "x"}
            host.call(use, "chord")
            self.assertEqual(host.added, [end.s("a")])

    def test_a_task_waits_for_others(self) -> None:
        with FakeHost() as host:
            host.results["known"] = {"state": "SUCCESS", "result": 5}
            self.assertEqual(host.call(use, "ask"), 5)
            with self.assertRaisesRegex(Ended, "ResultUnpublished"):
                host.call(use, "forget")
            for told, expected in (
                ({"exc_type": "ValueError", "exc_message": ["no", 1], "exc_module": "builtins"}, ValueError("no", 1)),
                ({"exc_type": "Full", "exc_message": ["no"], "exc_module": "shop"}, None),
            ):
                host.results["failed"] = {"state": "FAILURE", "result": told}
                with self.assertRaises(Exception) as raised:
                    AsyncResult("failed").get()
                self.assertEqual((type(raised.exception).__name__, raised.exception.args[0]), (told["exc_type"], "no"))
                self.assertTrue(expected is None or type(raised.exception) is type(expected))
            self.assertEqual(AsyncResult("failed").get(propagate=False)["exc_type"], "Full")
            with self.assertRaises(ResultTimedOut):
                AsyncResult("nobody").get(timeout=0)
            self.assertTrue(issubclass(ResultTimedOut, TimeoutError) and not issubclass(ResultUnpublished, TimeoutError))
            group = AsyncResult("g", None, [AsyncResult("known"), AsyncResult("h", None, [AsyncResult("known")])])
            self.assertEqual(group.get(1), [5, 5])
            self.assertTrue(group.ready() and group.successful() and not group.failed())

    def test_where_results_will_be_is_celerys_tuple(self) -> None:
        text = '[["g", [["h", null], null]], [[["a", null], null], [["b", [["c", null], null]], null]]]'
        group = AsyncResult.from_tuple(loads(text))
        self.assertEqual((group.id, group.parent.id, group.children[1].parent.id), ("g", "h", "c"))
        self.assertEqual(dumps(group), text)
        long: Any = None
        for step in range(5000):
            long = [[str(step), long], None]
        self.assertEqual(AsyncResult.from_tuple(long).id, "4999")
        for given in (None, "id", [], ["id", None], [[1, None], None], [["id"], None]):
            with self.assertRaisesRegex(ValueError, "not the result of a call"):
                AsyncResult.from_tuple(given)

    def test_a_task_has_what_it_is_lent(self) -> None:
        with FakeHost(config={"region": "eu"}, secrets={"key": "s"}, remaining=2.5) as host:
            self.assertEqual(host.call(use, "lent"), ["eu", "s"])
            self.assertEqual(host.call(use, "bucket"), ["vw", True, 2, ["k", "n"], False])
            self.assertEqual(host.call(use, "self"), [2.5, False, True])
            with self.assertRaisesRegex(Ended, "UpdateInvalid"):
                host.call(use, "progress")
            self.assertEqual(host.states, [("PROGRESS", {"current": 1, "total": 2})])

    def test_outside_of_a_host_nothing_reaches_anybody(self) -> None:
        context = Context("id", "task")
        context.progress(1, 2)
        self.assertEqual((context.cancelled(), context.remaining(), dict(context.request)["id"]), (False, float("inf"), "id"))
        for tried in (lambda: context.publish(end.s("a")), lambda: end.delay("a")):
            with self.assertRaisesRegex(PublishUnavailable, "published by a host, and this is none"):
                tried()
        self.assertTrue(issubclass(PublishUnavailable, PublishError))
        with self.assertRaisesRegex(RuntimeError, "no task is being run"):
            current_context()
        with self.assertRaises(UpdateError):
            FakeHost().update_state("RETRY", "{}")

    def test_logging_goes_to_the_host(self) -> None:
        log = logging.Logger("shop")
        log.addHandler(HostHandler())
        with FakeHost() as host:
            for level in (5, 10, 20, 30, 40, 50):
                log.log(level, "at %s", level)
            log.exception("sad", exc_info=Own("x"))
        levels = ["trace", "debug", "info", "warn", "error", "critical", "error"]
        self.assertEqual([line[0] for line in host.lines], levels)
        self.assertEqual(host.lines[2], ("info", "shop", "at 20"))
        self.assertTrue(host.lines[6][2].startswith("sad\n"))


class Declaring(unittest.TestCase):
    def test_tasks_are_described_with_their_options(self) -> None:
        found = {name: (task.summary, dict(options)) for name, task, _, options in described({"e": end, "b": bound})}
        self.assertEqual(found["e"], ("Ends in some way.", {}))
        names = loads(found["b"][1]["autoretry_for"])
        self.assertEqual(found["b"][1]["max_retries"], "7")
        self.assertLessEqual({"OSError", "ConnectionRefusedError", f"{__name__}.Own", "Other"}, set(names))

    def test_a_name_is_made_of_module_and_function(self) -> None:
        @task
        def short(x): ...

        self.assertEqual((short.name, short.__name__), (f"{__name__}.short", "short"))

    def test_what_is_wrong_is_told_where_it_is_declared(self) -> None:
        def f(): ...
        async def later(): ...

        for declare, expected in (
            (lambda: task(time_limt=3)(f), "no option 'time_limt'; did you mean 'time_limit'"),
            (lambda: task(max_retries=object())(f), "option 'max_retries': Object of type object"),
            (lambda: task(autoretry_for=[5])(f), "option 'autoretry_for' has 5, which is no class of exceptions"),
            (lambda: task("tasks.add"), "@task is written above a function, not 'tasks.add'"),
            (lambda: task(later), "later\\(\\) is an async function"),
            (lambda: task(bind=True)(f), "is bound and has no parameter for the task"),
        ):
            with self.assertRaisesRegex(TypeError, expected):
                declare()
        task(name="t.twice")(f)
        with self.assertRaisesRegex(ValueError, "two tasks are called 't.twice'"):
            task(name="t.twice")(later_name)

    def test_options_are_those_of_the_host(self) -> None:
        source = REPOSITORY / "host/sandbox/src/options.rs"
        if not source.exists():
            self.skipTest("only in a checkout of the repository")
        known = set()
        for start in ("HONOURED: &[&str] = &[", "FOR_CLIENTS: &[&str] = &[", "WITHOUT_EFFECT: &[&str] = &["):
            known |= set(source.read_text().split(start)[1].split("];")[0].replace('"', "").replace(",", "").split())
        self.assertEqual(_options.OPTIONS, known - {"name", "bind"})

    def test_raw_text_stays_as_it_is_wherever_it_stands(self) -> None:
        @task(name="t.raw")
        def raw(value: Json):
            return {"a": [value, value]}

        with FakeHost():
            self.assertEqual(raw.serve(Context(), '[1.50]', "{}"), '{"a": [1.50, 1.50]}')


def later_name() -> None: ...
