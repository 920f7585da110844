#!/usr/bin/env node
// Runs the unit tests of a plugin in Node.js: test/*.test.{ts,js}, bundled so that TypeScript works in every version.
//
//   node test.mjs [--project DIR] [options of node --test]

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { Failure } from "./builder/failure.mjs";
import { signatures } from "./builder/signatures.mjs";
import { Tools } from "./builder/tools.mjs";

async function main() {
  const { values, tokens } = parseArgs({ options: { project: { type: "string", default: "." } }, strict: false, allowPositionals: true, tokens: true });
  const options = tokens.filter((token) => token.kind === "option" && token.name !== "project").map(({ rawName, value }) => (value === undefined ? rawName : `${rawName}=${value}`));
  const project = path.resolve(values.project);
  const sdk = path.dirname(fileURLToPath(import.meta.url));
  const folder = path.join(project, "test");
  const tests = fs.existsSync(folder) ? fs.readdirSync(folder).filter((file) => /\.test\.(ts|mts|js|mjs)$/.test(file)) : [];
  if (tests.length === 0) throw new Failure("there are no tests: test/*.test.ts or test/*.test.js");
  const tools = new Tools(project, sdk);
  tools.require("esbuild");
  const esbuild = await tools.load("esbuild");
  const outdir = path.join(project, ".taskhost/test");
  fs.rmSync(outdir, { recursive: true, force: true });
  try {
    await esbuild.build({
      entryPoints: tests.map((file) => path.join(folder, file)),
      absWorkingDir: project,
      outdir,
      outExtension: { ".js": ".mjs" },
      bundle: true,
      format: "esm",
      platform: "node",
      target: "node20",
      keepNames: true,
      sourcemap: "inline",
      logLevel: "silent",
      alias: { taskhost: sdk },
      plugins: [signatures(project, sdk, fs, path)],
    });
  } catch (error) {
    if (!Array.isArray(error.errors)) throw error;
    throw new Failure((await esbuild.formatMessages(error.errors, { kind: "error", color: Boolean(process.stderr.isTTY) })).join(""));
  }
  const files = fs.readdirSync(outdir).filter((file) => file.endsWith(".mjs")).map((file) => path.join(outdir, file));
  const run = spawnSync(process.execPath, ["--enable-source-maps", "--test", ...options, ...files], { cwd: project, stdio: "inherit" });
  process.exitCode = run.status ?? 1;
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.message.trimEnd()}\n`);
  process.exitCode = 1;
}
