#!/usr/bin/env node
// Builds a plugin: TypeScript or JavaScript with what it imports -> one module -> one component.
//
//   node build.mjs --project DIR --out FILE [--entry src/index.ts] [--name PLUGIN] [--wit DIR]
//
// Looks for its tools in the project's node_modules, in the folder that TASKHOST_NODE_MODULES names, and beside itself.
// Downloads nothing.

import fs from "node:fs";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { bundle } from "./builder/bundle.mjs";
import { componentize } from "./builder/component.mjs";
import { Failure } from "./builder/failure.mjs";
import { Stamp } from "./builder/stamp.mjs";
import { check } from "./builder/types.mjs";
import { Tools } from "./builder/tools.mjs";

const ENTRIES = ["src/index.ts", "src/index.js", "src/index.mts", "src/index.mjs", "index.ts", "index.js", "index.mjs"];

async function main() {
  const { values } = parseArgs({
    options: {
      project: { type: "string", default: "." },
      out: { type: "string" },
      entry: { type: "string" },
      name: { type: "string" },
      wit: { type: "string" },
      "skip-types": { type: "boolean", default: false },
    },
  });
  const project = path.resolve(values.project);
  const entry = values.entry ?? ENTRIES.find((file) => fs.existsSync(path.join(project, file)));
  if (entry === undefined) throw new Failure(`${values.project} has none of ${ENTRIES.slice(0, 2).join(", ")}; name the main file: entry = "..." under [build] in plugin.toml`);
  if (!fs.existsSync(path.join(project, entry))) throw new Failure(`there is no ${entry} in ${values.project}`);
  const sdk = path.dirname(fileURLToPath(import.meta.url));
  const wit = values.wit ?? [path.join(sdk, "wit"), path.join(sdk, "../../wit")].find((folder) => fs.existsSync(path.join(folder, "sdk.wit")));
  if (wit === undefined) throw new Failure("the WIT files of Taskhost are not here; name their folder: --wit DIR");
  const name = values.name ?? path.basename(project);
  const tools = new Tools(project, sdk);
  tools.require("esbuild", "componentize-qjs");
  const work = path.join(project, ".taskhost");
  fs.mkdirSync(work, { recursive: true });
  // What cannot be bundled is told better by the bundler: TypeScript would have types of Node.js installed.
  const bundled = await bundle({ project, entry, name, sdk, work, esbuild: await tools.load("esbuild") });
  if (!values["skip-types"]) check(project, tools);
  const out = path.resolve(values.out ?? path.join(project, `${name}.wasm`));
  const stamp = new Stamp(path.join(work, "made"), out, [bundled.module, inputs(wit, sdk), tools.version("componentize-qjs")]);
  if (stamp.holds()) return;
  const component = await componentize({ ...bundled, wit, work, entry, qjs: await tools.load("componentize-qjs") });
  fs.writeFileSync(`${out}.new`, component);
  fs.renameSync(`${out}.new`, out);
  stamp.set(component);
}

/** What a component is made of besides the module. */
function inputs(wit, sdk) {
  const files = fs.readdirSync(wit, { recursive: true, encoding: "utf8" }).filter((file) => file.endsWith(".wit")).sort();
  return [...files.map((file) => path.join(wit, file)), path.join(sdk, "builder/component.mjs")].map((file) => fs.readFileSync(file, "utf8")).join("\0");
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Failure) && error?.code !== "ERR_PARSE_ARGS_UNKNOWN_OPTION") throw error;
  process.stderr.write(`${error.message.trimEnd()}\n`);
  process.exitCode = 1;
}
