import assert from "node:assert/strict";
import { test } from "node:test";

import { Retry } from "taskhost";
import { Recorder } from "taskhost/testing";

import { add, letters } from "../src/index";

test("numbers are added", () => {
  assert.equal(add(2, 2), 4);
});

test("letters of all words count", () => {
  const host = new Recorder();
  assert.equal(host.run(() => letters(["four", "три"])), 7);
  assert.equal(host.states.length, 2, "it says after each word how far it is");
});

test("without words it asks to be run again", () => {
  assert.throws(() => new Recorder().run(() => letters([])), Retry);
});
