"""Requests over ``wasi:http``.

Imported in components whose tasks use ``taskhost.http``. Whatever was made of something else is given back before it, since the
host insists on that.
"""

from __future__ import annotations

from typing import Any, NoReturn

from componentize_py_types import Err

from ._component import Component, generated
from .http import HttpError, HttpTimedOut

_types = generated("wasi_http_types")
_handler = generated("wasi_http_outgoing_handler")
_streams = generated("wasi_io_streams")

_METHODS = {
    name: getattr(_types, f"Method_{name.capitalize()}")
    for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
}

# What the host takes at once, and what is asked for at once.
_WRITE = 4096
_READ = 64 * 1024

Answer = tuple[int, list[tuple[str, str]], bytes]


def exchange(
    method: str,
    scheme: str,
    authority: str,
    target: str,
    headers: list[tuple[str, str]],
    body: bytes,
    timeout: float | None,
) -> Answer:
    """Sends a request and gives status, header fields and body of the answer."""
    url = f"{scheme}://{authority}{target}"
    try:
        fields = _types.Fields.from_list([(name.lower(), value.encode()) for name, value in headers])
    except Err as error:
        raise ValueError(f"a header field is not allowed: {_words(type(error.value).__name__)}") from None
    request = _types.OutgoingRequest(fields)
    try:
        request.set_method(_METHODS[method]() if method in _METHODS else _types.Method_Other(method))
        request.set_scheme(_types.Scheme_Https() if scheme == "https" else _types.Scheme_Http())
        request.set_authority(authority)
        request.set_path_with_query(target)
    except Err:
        raise ValueError(f"no request of HTTP: {method} {url}") from None
    content = request.body()
    try:
        waiting = _handler.handle(request, _options(timeout))
    except Err as error:
        with content:
            _fail(error.value, url)
    with waiting:
        _send(content, body)
        with waiting.subscribe() as ready:
            ready.block()
        found = waiting.get().value
        if isinstance(found, Err):
            _fail(found.value, url)
        with found.value as response:
            with response.headers() as answered:
                entries = [(name, value.decode("latin-1")) for name, value in answered.entries()]
            with response.consume() as incoming, incoming.stream() as stream:
                return response.status(), entries, _receive(stream, url)


def _options(timeout: float | None) -> Any:
    options = _types.RequestOptions()
    if timeout is not None:
        nanoseconds = max(1, int(timeout * 1e9))
        options.set_connect_timeout(nanoseconds)
        options.set_first_byte_timeout(nanoseconds)
        options.set_between_bytes_timeout(nanoseconds)
    return options


def _send(content: Any, body: bytes) -> None:
    try:
        with content.write() as stream:
            for start in range(0, len(body), _WRITE):
                stream.blocking_write_and_flush(body[start : start + _WRITE])
        _types.OutgoingBody.finish(content, None)
    except Err:
        pass  # the other side wants no more of it: what it answers says why, or why there is no answer


def _receive(stream: Any, url: str) -> bytes:
    chunks = []
    while True:
        try:
            chunks.append(stream.blocking_read(_READ))
        except Err as error:
            if isinstance(error.value, _streams.StreamError_Closed):
                return b"".join(chunks)
            with error.value.value as why:
                code = _types.http_error_code(why)
                text = why.to_debug_string()
            if code is None:
                raise HttpError(f"{url}: {text}") from None
            _fail(code, url)


def _fail(code: Any, url: str) -> NoReturn:
    name = _words(type(code).__name__)
    told = getattr(code, "value", None)
    if name == "internal-error" and told:
        raise HttpError(told, name) from None
    detail = f" ({told})" if isinstance(told, (str, int)) else ""
    if "timeout" in name:
        raise HttpTimedOut(f"{url}: {name}{detail}", name) from None
    raise HttpError(f"{url}: {name}{detail}", name) from None


def _words(case: str) -> str:
    """The name of a case as WIT writes it."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in case.rpartition("_")[2]).lstrip("-")


Component.exchange = staticmethod(exchange)  # type: ignore[method-assign]
