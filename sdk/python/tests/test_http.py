"""What requests say, and what answers come to."""

import unittest

from taskhost import HostError, http
from taskhost.testing import FakeHost


class Requests(unittest.TestCase):
    def test_a_request_is_what_was_asked_for(self) -> None:
        with FakeHost() as host:
            host.answers["http://a:8080/x%20y?q=%C3%BC&n=1&n=2"] = (200, {"ok": True})
            answer = http.post("http://a:8080/x y?q=ü", params={"n": [1, 2]}, json={"a": 1}, headers={"X-Y": "z"})
            self.assertEqual((answer.status, answer.json(), answer.ok), (200, {"ok": True}, True))
            method, _, headers, body = host.requests[0]
            self.assertEqual((method, body), ("POST", b'{"a": 1}'))
            self.assertEqual((headers["content-type"], headers["content-length"], headers["X-Y"]), ("application/json", "8", "z"))
            self.assertEqual(http.get("https://a").status, 404)
            self.assertEqual(host.requests[1][1], "https://a/")

    def test_what_is_no_request_is_refused(self) -> None:
        with FakeHost():
            for url in ("ftp://a", "a", "http://", "http://u:p@a/"):
                with self.assertRaises(ValueError):
                    http.get(url)
            with self.assertRaises(TypeError):
                http.post("http://a", body=b"", json={})
        with self.assertRaisesRegex(HostError, "requests are sent by a host, and this is none"):
            http.get("http://a")

    def test_an_answer_is_read_as_it_says(self) -> None:
        answer = http.Response(
            418, [("Content-Type", 'text/plain; charset="latin-1"'), ("Set-Cookie", "a"), ("set-cookie", "b")], b"\xfc", "u"
        )
        self.assertEqual((answer.text, answer.headers["set-cookie"]), ("ü", "a, b"))
        with self.assertRaisesRegex(http.HttpStatusError, "u answered 418") as raised:
            answer.raise_for_status()
        self.assertIs(raised.exception.response, answer)
        self.assertEqual(http.Response(200, [], b"\xff").text, "\ufffd")
