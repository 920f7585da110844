"""How a task ends other than with a result, and what the host may refuse.

Nothing here is raised by the package outside of a host, except where there is none to ask.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ._canvas import Signature


class TaskError(Exception):
    """A failure whose class the client's Python is told by name.

    ``raise TaskError("ValueError", "bad value", 42)`` is a ``ValueError("bad value", 42)`` for whoever waits for the result.
    Any other exception that leaves a task works as well, and is told by the name and the module of its class.

    :param type: name of the class.
    :param arguments: arguments of the exception; by custom the first is the message.
    :param module: module of the class. Of one that ``plugin.toml`` does not name under ``exception_modules``, other than
        ``builtins`` and ``celery.exceptions``, the client gets a class of that name made for it.
    :param traceback: text to show instead of the traceback of this exception.
    """

    def __init__(self, type: str, *arguments: Any, module: str | None = "builtins", traceback: str | None = None) -> None:
        super().__init__(*arguments)
        self.type = type
        self.module = module
        self.traceback = traceback


class Retry(Exception):
    """Has the task run again, under the same id: ``raise Retry(countdown=5) from error``.

    :param countdown: after so many seconds; without it, and without ``eta``, after the task's ``default_retry_delay``.
    :param eta: at this time, a ``datetime`` or a text in ISO 8601.
    :param max_retries: how many retries the task may have, instead of its own limit.
    :param args: other positional arguments.
    :param kwargs: other keyword arguments.
    :param cause: why: it is stored with the state RETRY, and is the failure once no retry is left. Without it that is the
        exception which this one is raised from, or while handling which.
    """

    def __init__(
        self,
        *,
        countdown: float | None = None,
        eta: datetime.datetime | str | None = None,
        max_retries: int | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        cause: BaseException | None = None,
    ) -> None:
        super().__init__("the task is to be run again")
        if countdown is not None and eta is not None:
            raise TypeError("a retry is due after a countdown or at an eta, not both")
        self.countdown = countdown
        self.eta = eta
        self.max_retries = max_retries
        self.args_again = args
        self.kwargs_again = kwargs
        self.cause = cause


class Reject(Exception):
    """Gives the message back to the broker, to be delivered again or not: Celery's ``Reject``."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        super().__init__(reason, requeue)
        self.reason = reason
        self.requeue = requeue


class Ignore(Exception):
    """Ends the task with nothing stored or announced: Celery's ``Ignore``."""


class Replace(Exception):
    """Puts another task, or a canvas, in this one's place, under its id: what Celery's ``Task.replace`` raises."""

    def __init__(self, signature: Signature) -> None:
        super().__init__(signature)
        self.signature = signature


class NotRegistered(KeyError):
    """This plugin has no task of that name."""


class HostError(Exception):
    """The host refuses something, or cannot do it. The text is the host's and says what is missing."""


class PublishError(HostError):
    """Why a call was not published."""


class PublishDenied(PublishError):
    """The plugin was not granted it."""


class PublishInvalid(PublishError):
    """It can never be published."""


class PublishLimited(PublishError):
    """It is more than the operator allows."""


class PublishUnavailable(PublishError):
    """The broker is away, or did not confirm in time. It may have the call all the same."""


class ResultError(HostError):
    """Why there is no result."""


class ResultDenied(ResultError):
    """The plugin may not see it."""


class ResultInvalid(ResultError):
    """This is no id of a task."""


class ResultUnpublished(ResultError):
    """The call is published when this task has succeeded, so it cannot be waited for."""


class ResultTimedOut(ResultError, TimeoutError):
    """The other task was not done in time."""


class ResultCancelled(ResultError):
    """This task is to come to an end."""


class ResultUnavailable(ResultError):
    """The result store is away, or did not answer in time."""


class UpdateError(HostError):
    """Why a state was not stored. The task may go on as if nothing had happened."""


class UpdateInvalid(UpdateError):
    """This state or this meta can never be stored."""


class UpdateLimited(UpdateError):
    """The meta is longer than the operator allows."""


class UpdateUnavailable(UpdateError):
    """The result store refused, or did not answer in time; later it may."""


class EventError(HostError):
    """Why an event was not taken. The task may go on as if nothing had happened."""


class EventInvalid(EventError):
    """This can never be an event."""


class EventLimited(EventError):
    """The task says more than the operator allows."""


class Denied(HostError):
    """A setting or a secret that was not lent."""


class BucketError(HostError):
    """Why a bucket cannot be had, or did not answer."""


_KINDS: dict[type[HostError], dict[str, type[HostError]]] = {
    PublishError: {
        "denied": PublishDenied,
        "invalid": PublishInvalid,
        "limited": PublishLimited,
        "unavailable": PublishUnavailable,
    },
    ResultError: {
        "denied": ResultDenied,
        "invalid": ResultInvalid,
        "unpublished": ResultUnpublished,
        "timed-out": ResultTimedOut,
        "cancelled": ResultCancelled,
        "unavailable": ResultUnavailable,
    },
    UpdateError: {"invalid": UpdateInvalid, "limited": UpdateLimited, "unavailable": UpdateUnavailable},
    EventError: {"invalid": EventInvalid, "limited": EventLimited},
}


def refuse(family: type[HostError], kind: str, why: str) -> NoReturn:
    """Raises the class of that kind."""
    raise _KINDS.get(family, {}).get(kind, family)(why)


# What a traceback calls them is what a task imports.
for _class in list(globals().values()):
    if isinstance(_class, type) and issubclass(_class, Exception) and _class.__module__ == __name__:
        _class.__module__ = "taskhost"
