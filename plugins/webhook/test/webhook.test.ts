import assert from "node:assert/strict";
import { test } from "node:test";

import { Json, Retry } from "taskhost";
import { Recorder } from "taskhost/testing";

import { RemoteError, WebhookError, waited } from "../src/exchange";
import { call, dispatch, notify } from "../src/index";

const URL_ = "https://hooks.example.com/x?token=t";

/** Runs a task against a server that answers this, and tells what the server was sent. */
function ask(answer: any, run: () => any, more: any = {}) {
  const sent: any[] = [];
  const answers = (url: string, init: any) => {
    sent.push({ url, ...init, headers: Object.fromEntries(init.headers) });
    if (answer instanceof Error) throw answer;
    return answer;
  };
  const host = new Recorder({ answers, secrets: { hook: "s3cret" } });
  try {
    return { sent, result: host.run(run, { id: "the-id", ...more }) };
  } catch (error: any) {
    return { sent, error };
  }
}

test("data is sent as JSON, byte for byte, and JSON comes back byte for byte", () => {
  const answer = { text: '{"n": 1.0}', headers: { "content-type": "application/json; charset=utf-8" } };
  const { sent, result } = ask(answer, () => call(URL_, new Json('{"x": 2.0, "big": 123456789012345678901234567890}')));
  assert.equal(sent[0].body, '{"x": 2.0, "big": 123456789012345678901234567890}');
  assert.deepEqual([sent[0].method, sent[0].redirect, sent[0].timeout], ["POST", "manual", 30_000]);
  const { "content-type": type, "idempotency-key": key, "x-task-retries": retries } = sent[0].headers;
  assert.deepEqual([type, key, retries], ["application/json", "the-id", "0"]);
  assert.ok(result instanceof Json && result.text === '{"n": 1.0}');
});

test("at the end of a chain the data comes first", () => {
  const { sent } = ask({ text: "ok" }, () => notify(new Json('{"paid": 7.0}'), URL_, "PUT"));
  assert.deepEqual([sent[0].method, sent[0].body], ["PUT", '{"paid": 7.0}']);
});

test("data is sent as a form, as text, or in the query", () => {
  const form = ask({ text: "ok" }, () => call(URL_, new Json('{"a": [1, "ü"], "b": null, "c": true}'), "POST", {}, "form"));
  assert.deepEqual([form.sent[0].body, form.result], ["a=1&a=%C3%BC&b=&c=true", "ok"]);
  assert.equal(form.sent[0].headers["content-type"], "application/x-www-form-urlencoded");
  assert.equal(ask({}, () => call(URL_, new Json('"plain"'), "PUT", {}, "text")).sent[0].body, "plain");
  const query = ask({}, () => call(URL_, new Json('{"q": "a b"}'), "get"));
  assert.deepEqual([query.sent[0].url, query.sent[0].body, query.sent[0].method], ["https://hooks.example.com/x?token=t&q=a+b", undefined, "GET"]);
  assert.match(ask({}, () => call(URL_, new Json('{"a": {}}'), "POST", {}, "form")).error.message, /a form has no place for what is in 'a'/);
  assert.match(ask({}, () => call(URL_, new Json("[1]"), "GET")).error.message, /the query of a GET takes an object/);
  assert.match(ask({}, () => call(URL_, new Json("1"), "POST", {}, "xml")).error.message, /encoding is "json", "form" or "text"/);
});

test("headers are given, and may end with a secret", () => {
  const { sent } = ask({}, () => call(URL_, undefined, "POST", { Authorization: { secret: "hook", prefix: "Bearer " }, "User-Agent": "mine" }));
  assert.deepEqual([sent[0].headers.authorization, sent[0].headers["user-agent"], sent[0].body], ["Bearer s3cret", "mine", undefined]);
});

test("an answer that is not as expected is an error, which shows no query", () => {
  const { error } = ask({ status: 404, text: "no such hook" }, () => call(URL_));
  assert.ok(error instanceof WebhookError);
  assert.deepEqual(error.arguments, ["POST https://hooks.example.com/x?.. answered 404: no such hook", 404]);
  assert.equal(ask({ status: 404, text: "fine" }, () => call(URL_, undefined, "POST", {}, "json", [200, 404])).result, "fine");
  assert.ok(ask({ status: 200 }, () => call(URL_, undefined, "POST", {}, "json", 204)).error instanceof WebhookError);
  assert.ok(ask({ status: 302, headers: { location: "/" } }, () => call(URL_)).error instanceof WebhookError);
});

test("what may pass is tried again, when the server says or later each time", () => {
  const busy = ask({ status: 429, headers: { "retry-after": "7" } }, () => call(URL_)).error;
  assert.ok(busy instanceof Retry && (busy as any).countdown === 7 && busy.cause instanceof WebhookError);
  assert.equal(ask({ status: 503 }, () => call(URL_), { retries: 3 }).error.countdown, 8);
  assert.equal(ask({ status: 500, headers: { "retry-after": "999999" } }, () => call(URL_)).error.countdown, 3600);
  const away = Object.assign(new Error("slow"), { name: "TimeoutError" });
  assert.ok(ask(away, () => call(URL_)).error instanceof Retry);
  assert.equal(waited("Thu, 01 Jan 1970 00:01:00 GMT", 30_000), 30);
  assert.equal(waited("soon"), undefined);
});

test("the whole response is given to those who want it", () => {
  const { result } = ask({ status: 201, text: "made", headers: { "X-Kind": "a" } }, () => call(URL_, undefined, "POST", {}, "json", null, 30, 100, "response"));
  assert.deepEqual(result, { status: 201, headers: { "x-kind": "a" }, body: "made" });
});

test("a server that says JSON and sends none is not believed", () => {
  const { error } = ask({ text: "<html>", headers: { "content-type": "application/json" } }, () => call(URL_));
  assert.match(error.message, /https:\/\/hooks\.example\.com\/x\?\.\. answered .*<html>/);
});

test("servers of HttpDispatchTask are understood", () => {
  const asked = (text: string, method?: string) => ask({ text }, () => dispatch("http://h/multiply", method, { x: 10, y: 2n ** 64n }));
  const get = asked('{"status": "success", "retval": 100}');
  assert.deepEqual([get.sent[0].url, get.result], ["http://h/multiply?x=10&y=18446744073709551616", 100]);
  assert.equal(asked('{"status": "success"}', "POST").sent[0].body, "x=10&y=18446744073709551616");
  const failed = asked('{"status": "failure", "reason": "out of memory"}').error;
  assert.ok(failed instanceof RemoteError && failed.message === "out of memory");
  assert.match(asked("oops").error.message, /answered no JSON: oops/);
  assert.match(asked('{"status": "perhaps"}').error.message, /neither success nor failure/);
});
