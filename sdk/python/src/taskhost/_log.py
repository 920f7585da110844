"""Python's logging into the host's log, which knows the task and writes the level."""

from __future__ import annotations

import logging

from ._host import host

__all__ = ["HostHandler", "install"]


class HostHandler(logging.Handler):
    """Writes records with ``wasi:logging``."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            name = "" if record.name == "root" else record.name
            host().log(_level(record.levelno), name, self.format(record))
        except Exception:
            self.handleError(record)


def _level(number: int) -> str:
    if number >= logging.CRITICAL:
        return "critical"
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warn"
    if number >= logging.INFO:
        return "info"
    return "debug" if number >= logging.DEBUG else "trace"


def install() -> None:
    """Has all of logging go to the host, from INFO on, unless the plugin has set up something of its own."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(HostHandler())
        if root.level == logging.WARNING:  # what it has if nobody has set it
            root.setLevel(logging.INFO)
