import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const sdk = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const wit = path.join(sdk, "../../wit/sdk.wit");
const lacking = !process.env.TASKHOST_NODE_MODULES ? "TASKHOST_NODE_MODULES names no tools" : !fs.existsSync(wit) && "the interface is in the repository";

/** What the build says of a project. */
function build(files, environment = process.env) {
  const project = fs.mkdtempSync(path.join(os.tmpdir(), "taskhost-js-"));
  try {
    for (const [name, text] of Object.entries(files)) {
      fs.mkdirSync(path.dirname(path.join(project, name)), { recursive: true });
      fs.writeFileSync(path.join(project, name), text);
    }
    const run = spawnSync(process.execPath, [path.join(sdk, "build.mjs"), "--project", project, "--name", "mine"], { encoding: "utf8", env: environment });
    const said = run.stderr.replaceAll("\r", "").trim();
    return run.status === 0 ? `${said}built ${fs.statSync(path.join(project, "mine.wasm")).size > 1e6}` : said;
  } finally {
    fs.rmSync(project, { recursive: true });
  }
}

const index = (text) => ({ "src/index.ts": text });
const start = 'import { task } from "taskhost";\n';

test("a project becomes a component", { skip: lacking }, () => {
  assert.equal(build(index(`${start}export const add = task((x: number, y: number) => x + y);`)), "built true");
  const library = { "node_modules/lib/package.json": '{"name": "lib", "main": "./lib.js"}', "node_modules/lib/lib.js": "exports.twice = (x) => 2 * x;" };
  assert.equal(build({ ...library, "index.js": `${start}import { twice } from "lib";\ntask({ name: "t.twice" }, (x) => twice(x));` }), "built true");
});

test("the same sources give the same component, and others another", { skip: lacking }, () => {
  const project = fs.mkdtempSync(path.join(os.tmpdir(), "taskhost-js-"));
  try {
    const made = (text) => {
      fs.writeFileSync(path.join(project, "index.js"), text);
      const run = spawnSync(process.execPath, [path.join(sdk, "build.mjs"), "--project", project, "--name", "mine"], { encoding: "utf8" });
      assert.equal(run.status, 0, run.stderr);
      return fs.readFileSync(path.join(project, "mine.wasm"));
    };
    const [one, other] = ["1", "2"].map((value) => `${start}export const t = task(() => ${value});`);
    const first = made(one);
    assert.ok(made(one).equals(first));
    assert.ok(!made(other).equals(first));
    fs.writeFileSync(path.join(project, "mine.wasm"), "what somebody else has put there");
    assert.ok(made(other).length > 1e6);
  } finally {
    fs.rmSync(project, { recursive: true });
  }
});

test("what is wrong is told in terms of the sources", { skip: lacking }, () => {
  for (const [text, expected] of [
    [`${start}export const add = task((x) => x +);`, [/ERROR/, /src\/index\.ts:2:34/, /export const add/]],
    [`${start}import fs from "fs";\ntask({ name: "t" }, () => fs);`, [/"fs" is a module of Node\.js, and a task does not run in Node\.js: files are not there/, /src\/index\.ts:2:15/]],
    [`${start}import { x } from "left-pad";\ntask({ name: "t" }, () => x);`, [/Could not resolve "left-pad"/, /src\/index\.ts:2:18/]],
    [`${start}const x: any = null;\nexport const t = task(() => x.y);\nfunction load() { return x.y; }\nload();`, [/^src\/index\.ts:4: .*cannot read property 'y' of null/, /at load \(src\/index\.ts:4\): function load\(\) \{ return x\.y; \}/, /src\/index\.ts:5/]],
    [`${start}export const t = task(() => 1);\nBuffer.from("x");`, [/^src\/index\.ts:3: .*Buffer is not defined/, /hint: there is no Buffer in a task: it is a thing of Node\.js; use Uint8Array/]],
    [start, [/^src\/index\.ts: the module declares no task/]],
    [`${start}task((x) => x);`, [/^src\/index\.ts: a task has no name: export it/]],
    [`${start}export const a = task("t", () => 1);\nexport const b = task("t", () => 1);`, [/^src\/index\.ts: two tasks of this plugin are called t$/]],
    [`${start}export const t = task({ params: { z: "string" } }, (x: string) => x);`, [/^src\/index\.ts:2: .*params names 'z', but the function takes \(x\)/]],
    [`${start}import { config } from "taskhost";\nconst region = config("region");\nexport const t = task(() => region);`, [/src\/index\.ts:3/, /the top level of a module runs when the plugin is built/]],
    [`${start}export const t = task(() => 1);\nawait 5;`, [/[Tt]op-level await/, /src\/index\.ts:3:0/]],
    [`${start}const seed = Math.random();\nexport const t = task(() => seed);`, [/^src\/index\.ts:2: .*once a task runs, not while the module is loaded/]],
  ]) {
    const said = build(index(text));
    for (const pattern of expected) assert.match(said, pattern);
    assert.doesNotMatch(said, /taskhostParams|Object\.assign|bundle\.js|node:internal/, "nobody sees how it is done");
  }
});

test("types are checked if the project has TypeScript", { skip: lacking }, () => {
  const config = { compilerOptions: { strict: true, noEmit: true, lib: ["ES2023"], module: "ESNext", moduleResolution: "bundler", types: [], paths: { taskhost: [path.join(sdk, "index.d.ts")] } }, include: ["src"] };
  const project = { ...index(`${start}export const add = task((x: number): string => x + 1);`), "tsconfig.json": JSON.stringify(config) };
  assert.match(build({ ...project, ...index(`${start}import fs from "node:fs";\nexport const t = task(() => fs);`) }), /"node:fs" is a module of Node\.js/);
  assert.match(build(project), /src\/index\.ts\(2,48\): error TS2322: Type 'number' is not assignable to type 'string'/);
});

test("what is not installed is said with the command that installs it", () => {
  const { TASKHOST_NODE_MODULES: _, ...bare } = process.env;
  const text = index(start);
  if (fs.existsSync(path.join(sdk, "node_modules"))) return;
  assert.match(build(text, bare), /not installed: esbuild, componentize-qjs\nrun this in the plugin's folder: npm install --save-dev esbuild@[\d.]+ componentize-qjs@[\d.]+$|WIT/);
  assert.match(build({ ...text, "package.json": '{"devDependencies": {"esbuild": "1", "componentize-qjs": "1"}}' }, bare), /folder: npm install$|WIT/);
  assert.match(build({}, bare), /has none of src\/index\.ts, src\/index\.js; name the main file/);
});
