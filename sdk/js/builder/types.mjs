// Has TypeScript look at the project, if it is installed there: its complaints are the user's.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import process from "node:process";

import { Failure } from "./failure.mjs";

export function check(project, tools) {
  const typescript = tools.find("typescript");
  if (typescript === undefined || !fs.existsSync(path.join(project, "tsconfig.json"))) return;
  const { bin } = JSON.parse(fs.readFileSync(path.join(typescript, "package.json"), "utf8"));
  const tsc = path.join(typescript, typeof bin === "string" ? bin : bin.tsc);
  const pretty = process.stderr.isTTY ? "true" : "false";
  const run = spawnSync(process.execPath, [tsc, "--noEmit", "--pretty", pretty, "-p", "tsconfig.json"], { cwd: project, encoding: "utf8" });
  if (run.error) throw new Failure(`TypeScript cannot be started: ${run.error.message}`);
  if (run.status !== 0) throw new Failure(`${run.stdout}${run.stderr}`);
}
