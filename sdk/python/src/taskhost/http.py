"""A small HTTP client over the host's: ``from taskhost import http``.

    answer = http.get("https://api.example.com/items", params={"page": 2}, timeout=10)
    answer.raise_for_status()
    items = answer.json()

Where requests may go is declared under ``http`` in ``[needs]`` of ``plugin.toml`` and granted by the operator. The host does TLS. Follows
no redirects, keeps no cookies and no connections.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from ._errors import HostError
from ._host import host
from ._json import dumps, loads

__all__ = ["HttpError", "HttpStatusError", "HttpTimedOut", "Response", "delete", "get", "patch", "post", "put", "request"]


class HttpError(HostError):
    """There is no answer: the request was denied, or nobody could be reached, or he said nothing that is HTTP. ``code`` is what
    wasi:http calls it, such as ``connection-refused``."""

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code


class HttpTimedOut(HttpError, TimeoutError):
    """There was no answer in time."""


class HttpStatusError(HttpError):
    """The answer has a status of 400 or more. ``response`` is that answer."""

    def __init__(self, text: str, response: Response) -> None:
        super().__init__(text)
        self.response = response


@dataclasses.dataclass
class Response:
    """An answer, whole."""

    status: int
    header_list: list[tuple[str, str]]
    """Header fields as they came."""
    body: bytes
    url: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """Header fields by their names in lower case; those that came several times are joined by commas."""
        found: dict[str, str] = {}
        for name, value in self.header_list:
            name = name.lower()
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found

    @property
    def ok(self) -> bool:
        """True below 400."""
        return self.status < 400

    @property
    def text(self) -> str:
        """The body, in the encoding that the answer names, or else UTF-8; what is not is replaced."""
        _, _, after = self.headers.get("content-type", "").lower().partition("charset=")
        charset = after.split(";")[0].strip(" \"'") or "utf-8"
        try:
            return self.body.decode(charset, "replace")
        except LookupError:
            return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, which is JSON."""
        return loads(self.body.decode())

    def raise_for_status(self) -> None:
        """Raises an HttpStatusError unless the answer is ``ok``."""
        if not self.ok:
            raise HttpStatusError(f"{self.url} answered {self.status}", self)


def request(
    method: str,
    url: str,
    *,
    params: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    body: bytes | str | None = None,
    json: Any = None,
    timeout: float | None = None,
) -> Response:
    """Sends a request and gives the whole answer, whatever its status.

    :param params: what is added to the query of the URL.
    :param body: bytes, or a text that is sent as UTF-8.
    :param json: a value that is sent as JSON instead of a body.
    :param timeout: seconds for making the connection, for the first byte and between any two; the operator's
        ``limits.http_timeout`` is for all of it.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"no URL of HTTP: {url!r}")
    if parts.username is not None:
        raise ValueError("credentials are sent in the header field Authorization, not in the URL")
    if body is not None and json is not None:
        raise TypeError("a request has a body or json, not both")
    # A browser would do the same with what people write into URLs.
    target = quote(parts.path, safe="/%:@!$&'()*+,;=~-._") or "/"
    query = "&".join(filter(None, [quote(parts.query, safe="/?%:@!$&'()*+,;=~-._"), urlencode(params or {}, doseq=True)]))
    if query:
        target += f"?{query}"
    authority = parts.netloc if parts.netloc.isascii() else parts.netloc.encode("idna").decode()
    fields = list(headers.items() if isinstance(headers, Mapping) else headers or ())
    given = {name.lower() for name, _ in fields}
    if json is not None:
        body = dumps(json)
        if "content-type" not in given:
            fields.append(("content-type", "application/json"))
    content = body.encode() if isinstance(body, str) else body
    if content is not None and "content-length" not in given:
        fields.append(("content-length", str(len(content))))
    if "user-agent" not in given:
        fields.append(("user-agent", "taskhost-python/0.1.0"))
    status, answered, received = host().exchange(
        method.upper(), parts.scheme, authority, target, fields, content or b"", timeout
    )
    return Response(status, answered, received, url)


def get(url: str, **options: Any) -> Response:
    """``request("GET", ..)``."""
    return request("GET", url, **options)


def post(url: str, **options: Any) -> Response:
    """``request("POST", ..)``."""
    return request("POST", url, **options)


def put(url: str, **options: Any) -> Response:
    """``request("PUT", ..)``."""
    return request("PUT", url, **options)


def patch(url: str, **options: Any) -> Response:
    """``request("PATCH", ..)``."""
    return request("PATCH", url, **options)


def delete(url: str, **options: Any) -> Response:
    """``request("DELETE", ..)``."""
    return request("DELETE", url, **options)
