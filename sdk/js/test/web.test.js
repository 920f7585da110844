import assert from "node:assert/strict";
import { test } from "node:test";

import * as encoding from "../lib/encoding.js";
import * as own from "../lib/url.js";

test("URLs are taken apart as the platform does", () => {
  for (const [url, base] of [
    ["http://example.com"],
    ["https://user:pa%20ss@Example.COM:8443/a/../b/./c?x=1&y=ü z#frag"],
    ["http://example.com:80/"],
    ["https://example.com/%7Efoo/../bar?x"],
    ["../up?q", "http://h/a/b/c"],
    ["/root", "http://h:8080/a/b"],
    ["?only", "http://h/a/b?old#h"],
    ["#hash", "http://h/a/b?old"],
    ["//other/path", "https://h/a"],
    ["", "http://h/a/b?old#h"],
    ["http://[::1]:3000/x"],
    ["http://h/a b/<c>"],
    ["HTTP://H/ä?ö#ü"],
  ]) {
    const [mine, theirs] = [new own.URL(url, base), new URL(url, base)];
    for (const part of ["href", "protocol", "username", "password", "hostname", "port", "pathname", "search", "hash", "host", "origin"]) {
      assert.equal(mine[part], theirs[part], `${part} of ${url} ${base ?? ""}`);
    }
  }
  for (const url of ["", "example.com", "http://", "http://a b/", "http://h:99999/", "mailto:x@y"]) assert.throws(() => new own.URL(url), TypeError, url);
  assert.equal(own.URL.canParse("nonsense"), false);
});

test("search parameters are taken apart and put together as the platform does", () => {
  for (const init of ["a=1&b=2&a=%C3%BC+x&c", "?q=a%26b", { x: "1 2", y: "~!*()'" }, [["k", "v"], ["k", "ü&="]]]) {
    const [mine, theirs] = [new own.URLSearchParams(init), new URLSearchParams(init)];
    assert.equal(mine.toString(), theirs.toString());
    assert.deepEqual([...mine], [...theirs]);
    for (const params of [mine, theirs]) {
      params.append("a", "9");
      params.set("k", "only");
      params.delete("b");
    }
    assert.equal(mine.toString(), theirs.toString());
  }
  const url = new own.URL("http://h/?a=1");
  url.searchParams.append("b", "ü");
  assert.equal(url.href, "http://h/?a=1&b=%C3%BC");
});

test("text is encoded and decoded as the platform does", () => {
  const [mine, theirs] = [new encoding.TextEncoder(), new TextEncoder()];
  for (const text of ["", "plain", "ü€😀", "a\ud800b", "\udc00", "\u0000\u07ff\u0800\uffff", "x".repeat(20_000)]) {
    const bytes = theirs.encode(text);
    assert.deepEqual(mine.encode(text), bytes, text.slice(0, 20));
    assert.equal(new encoding.TextDecoder().decode(bytes), new TextDecoder().decode(bytes), text.slice(0, 20));
  }
  for (const bytes of [[0xff], [0xc3], [0xc3, 0x28], [0xe2, 0x82], [0xe2, 0x82, 0x41], [0xf0, 0x9f, 0x98], [0xed, 0xa0, 0x80], [0xc0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xef, 0xbb, 0xbf, 0x41], [0xf0, 0x80, 0x41]]) {
    assert.equal(new encoding.TextDecoder().decode(Uint8Array.from(bytes)), new TextDecoder().decode(Uint8Array.from(bytes)), String(bytes));
  }
  assert.throws(() => new encoding.TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.of(0xff)), TypeError);
});
