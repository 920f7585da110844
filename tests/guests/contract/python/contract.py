"""The contract of the SDKs, as somebody who comes from Celery would write it."""

import logging
import sys
import time
from typing import Any

import compose as canvases
from taskhost import (
    AsyncResult,
    Bucket,
    Context,
    Ignore,
    Json,
    Reject,
    Retry,
    Signature,
    TaskError,
    UpdateError,
    config,
    secret,
    task,
)

log = logging.getLogger(__name__)


class ContractError(Exception):
    """An error of this plugin's own."""


@task
def add(x: int | float, y: int | float) -> int | float:
    """Adds two numbers."""
    return x + y


@task
def echo(value: Json) -> Json:
    """Returns what it is given, as it is written."""
    return value


@task
def parsed(value: Any) -> Any:
    """Returns what it is given, as Python understands it."""
    return value


@task
def greet(name: str, greeting: str = "Hello", punctuation: str = "!") -> str:
    """Greets somebody."""
    return f"{greeting}, {name}{punctuation}"


@task
def collect(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Returns whatever it is given."""
    return {"args": args, "kwargs": kwargs}


@task
def fail(kind: str = "value") -> None:
    """Fails in some way."""
    match kind:
        case "value":
            raise TaskError("ValueError", "bad value", 42)
        case "own":
            deeper()
        case "chained":
            try:
                raise ValueError("inner")
            except ValueError as error:
                raise ContractError("outer") from error
        case _:
            raise ContractError


def deeper() -> None:
    raise ContractError("own trouble")


@task
def crash() -> float:
    """Has a bug."""
    return 1 / 0


@task(bind=True, max_retries=None)
def retry(self, times: int = 2, countdown: float = 0) -> int:
    """Is run again so many times."""
    if self.request.retries == times:
        return self.request.retries
    try:
        raise ConnectionError(f"attempt {self.request.retries + 1}")
    except ConnectionError as exc:
        raise self.retry(exc=exc, countdown=countdown)


@task
def retry_args(context: Context, word: str) -> str:
    """Is run again with another argument."""
    if context.retries == 0:
        raise Retry(args=["second"], countdown=0)
    return word


@task(bind=True, max_retries=1, default_retry_delay=0)
def give_up(self) -> None:
    """Is run again until it may no more."""
    raise self.retry(exc=ValueError("never"))


@task(autoretry_for=(ConnectionError,), max_retries=2, default_retry_delay=0)
def unsteady(context: Context, times: int = 1) -> int:
    """Fails at first."""
    if context.retries < times:
        raise ConnectionError(f"attempt {context.retries + 1}")
    return context.retries


@task
def reject(requeue: bool = False) -> None:
    """Gives its message back."""
    raise Reject(requeue=requeue)


@task
def ignore() -> None:
    """Ends with nothing said."""
    raise Ignore


@task(bind=True)
def replace(self, task: str, args: list) -> None:
    """Has another task in its place."""
    raise self.replace(Signature(task, args))


@task
def progress(context: Context, steps: int = 3) -> int:
    """Says how far it is."""
    for step in range(1, steps + 1):
        context.progress(step, steps)
    context.update_state("CUSTOM", {"note": "ü"})
    return steps


@task(bind=True)
def report(self, state: str) -> str | None:
    """Gives itself a state; returns why it could not."""
    try:
        self.update_state(state=state, meta={})
    except UpdateError as error:
        return str(error)
    return None


@task
def event(context: Context, kind: str) -> None:
    """Tells monitors something."""
    context.send_event(kind, x=1)


@task
def context(context: Context) -> dict[str, Any]:
    """Returns what it knows about its call."""
    return {
        "id": context.id,
        "task": context.task,
        "retries": context.retries,
        "cancelled": context.cancelled(),
        "remaining": context.remaining(),
        "root_id": context.request["root_id"],
        "queue": context.request["delivery_info"]["routing_key"],
    }


@task(handles_soft_limit=True, soft_time_limit=1, time_limit=30)
def graceful(context: Context, seconds: float = 60) -> str:
    """Ends when it is asked to."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if context.cancelled():
            return "cancelled"
        time.sleep(0.05)
    return "finished"


@task(soft_time_limit=1, time_limit=30)
def soft() -> None:
    """Sleeps longer than it may."""
    time.sleep(20)


@task(time_limit=1)
def spin() -> None:
    """Never ends."""
    while True:
        pass


@task
def hog() -> None:
    """Takes all the memory that it can get."""
    blocks = []
    while True:
        blocks.append(b"\1" * (1 << 20))


@task
def recurse() -> int:
    """Calls itself for ever."""
    return descend(0)


def descend(depth: int) -> int:
    return descend(depth + 1) + 1


@task
def flood(megabytes: int) -> str:
    """Returns a long text."""
    return "x" * (megabytes << 20)


@task
def publish(context: Context, task: str, args: list, now: bool = False, fail: bool = False) -> str:
    """Calls another task."""
    signature = Signature(task, args)
    id = context.publish_now(signature) if now else context.publish(signature)
    if fail:
        raise ValueError("as was wanted")
    return id


@task
def apply(canvas: dict) -> AsyncResult:
    """Has a canvas run."""
    return Signature(canvas).apply_async()


@task
def ask(context: Context, task: str, args: list, timeout: float = 20) -> Any:
    """Returns what another task returns."""
    id = context.publish_now(Signature(task, args))
    return context.wait(id, timeout).result


@task
def compose(name: str) -> Signature:
    """Returns a canvas."""
    return canvases.named(name)


@task(bind=True)
def become(self, name: str) -> None:
    """Has a canvas in its place."""
    self.replace(canvases.sums(name, add, sum))


@task
def extend(context: Context, items: list[int]) -> int:
    """Adds to the chord that it is in."""
    for item in items:
        context.add_to_chord(add.s(item, 0))
    return 0


@task
def sum(numbers: list[int]) -> int:
    """Adds numbers."""
    total = 0
    for number in numbers:
        total += number
    return total


@task(name="contract.log")
def write(text: str) -> None:
    """Writes into the log."""
    log.info(text)
    log.warning("warning: %s", text)
    print("stdout:", text)
    print("stderr:", text, file=sys.stderr)


@task(name="contract.config")
def setting(key: str) -> str:
    """Returns a setting."""
    return config(key)


@task(name="contract.secret")
def length(name: str) -> int:
    """Returns how long a secret is."""
    return len(secret(name))


@task
def keep(bucket: str, key: str, value: str) -> list:
    """Keeps a value, and counts."""
    cache = Bucket(bucket)
    cache.set(key, value)
    return [cache.get(key).decode(), cache.increment("n", 2)]


@task(
    queue="slow",
    max_retries=7,
    default_retry_delay=1.5,
    rate_limit="10/m",
    time_limit=20,
    soft_time_limit=10,
    acks_late=False,
    ignore_result=False,
    track_started=True,
    retry_backoff=True,
)
def options() -> None:
    """Has every option."""
