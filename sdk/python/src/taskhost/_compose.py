"""Composes signatures by the rules of Celery's operators (celery/canvas.py ``_fold_chain`` and the ``__or__`` of each
class), so that what a task builds is what a client would have built. Changes what it is given."""

from __future__ import annotations

from . import _canvas
from ._canvas import Signature


def join(left: Signature, right: Signature) -> Signature:
    """The chain of both."""
    if _is_empty_group(right):
        return left
    if left.kind == "chain":
        steps = _unchain(left)
        no_chain = append(steps, right)
        return _chain(steps) if no_chain is None else no_chain
    if left.kind == "group":
        return _canvas.chord(left, right)
    if left.kind == "chord" and right.kind == "group" and len(right.tasks) == 1:
        return _into_body(left, right.tasks[0])
    if left.kind == "chord" and right.kind not in ("group", "chain"):
        return _into_body(left, right)
    if right.kind == "chain":
        return _chain([left, *_unchain(right)])
    return _chain([left, _unroll(right)])


def append(steps: list[Signature], other: Signature) -> Signature | None:
    """Adds to the steps of a chain; gives what is no chain any more, and has taken the steps."""
    if _is_empty_group(other):
        return None
    if other.kind == "group":
        if len(other.tasks) == 1:
            return append(steps, other.tasks[0])
        if not steps:
            return other
        if steps[-1].kind == "chord":
            steps.append(_into_body(steps.pop(), other))
        else:
            steps.append(other)
    elif other.kind == "chain":
        rest = _unchain(other)
        while rest:
            if (no_chain := append(steps, rest.pop(0))) is not None:
                for following in rest:
                    no_chain = join(no_chain, following)
                return no_chain
    elif steps and steps[-1].kind == "group":
        steps.append(_canvas.chord(steps.pop(), other))
    elif steps and steps[-1].kind == "chord" and other.kind != "chord":
        steps.append(_into_body(steps.pop(), other))
    else:
        steps.append(other)
    return None


def _chain(steps: list[Signature]) -> Signature:
    return _canvas._canvas("chain", {"tasks": steps})


def _unchain(chain: Signature) -> list[Signature]:
    """The steps of a chain, with what hangs on the chain hung on them."""
    steps = list(chain.tasks)
    for link in chain.options.get("link", ()) if steps else ():
        steps[-1].link(link)
    for step in steps:
        for errback in chain.options.get("link_error", ()):
            step.link_error(errback)
    return steps


def _unroll(other: Signature) -> Signature:
    """The only member of a group that has one."""
    return other.tasks[0] if other.kind == "group" and len(other.tasks) == 1 else other


def _into_body(chord: Signature, other: Signature) -> Signature:
    """What follows a chord follows its body."""
    chord.kwargs["body"] = other if chord.body is None else join(chord.body, other)
    return chord


def _is_empty_group(signature: Signature) -> bool:
    return signature.kind == "group" and not signature.tasks
