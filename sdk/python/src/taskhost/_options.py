"""The options of a task, under Celery's names."""

from __future__ import annotations

import datetime
import difflib
from typing import Any

from ._json import dumps

__all__ = ["read"]

# What the host knows; the values are its business.
OPTIONS = frozenset(
    """
    acks_late acks_on_failure acks_on_failure_or_timeout acks_on_timeout autoretry_for concurrency concurrency_key
    default_retry_delay dont_autoretry_for handles_soft_limit ignore_result max_retries pin_retries rate_limit rate_limit_scope
    reject_on_worker_lost retry_backoff retry_backoff_max retry_jitter retry_kwargs retry_on retry_on_worker_lost soft_time_limit
    store_errors_even_if_ignored time_limit track_started

    compression delivery_mode exchange expires mandatory priority queue routing_key serializer

    backend countdown eta immutable link link_error pydantic resultrepr_maxsize send_events shadow_name throws trail typing
    """.split()
)

# Exceptions by name; with a class come those below it.
_CLASSES = ("autoretry_for", "dont_autoretry_for", "throws")


def read(given: dict[str, Any], function: str) -> dict[str, Any]:
    """The options as JSON can hold them; a TypeError names one that does not exist or cannot be written."""
    options = {}
    for name, value in given.items():
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, [*OPTIONS, "name", "bind", "summary"], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"@task of {function}() has no option {name!r}{hint}")
        if name in _CLASSES:
            value = _names(name, value, function)
        elif isinstance(value, datetime.timedelta):
            value = value.total_seconds()
        try:
            dumps(value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"@task of {function}(): option {name!r}: {error}") from None
        options[name] = value
    return options


def _names(option: str, value: Any, function: str) -> list[str]:
    if isinstance(value, (str, type)):
        value = (value,)
    names: dict[str, None] = {}
    for one in value:
        if isinstance(one, str):
            names[one] = None
        elif isinstance(one, type) and issubclass(one, BaseException):
            names.update(dict.fromkeys(_below(one)))
        else:
            raise TypeError(f"@task of {function}(): option {option!r} has {one!r}, which is no class of exceptions")
    return list(names)


def _below(wanted: type[BaseException]) -> list[str]:
    """The class and all those below it, as the host compares names. Every exception is an ``Exception`` for it."""
    if wanted is Exception:
        return ["Exception"]
    waiting, names = [wanted], []
    while waiting:
        one = waiting.pop(0)
        builtin = one.__module__ == "builtins"
        names.append(one.__name__ if builtin else f"{one.__module__}.{one.__name__}")
        waiting.extend(one.__subclasses__())
    return names
