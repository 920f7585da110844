// Makes one module of the user's file, of what it imports, and of the SDK.

import fs from "node:fs";
import { builtinModules } from "node:module";
import path from "node:path";
import process from "node:process";

import { Failure } from "./failure.mjs";
import { compact, segments } from "./map.mjs";
import { signatures } from "./signatures.mjs";

export const BUNDLE = "bundle.js";
/** Source lines are shown in tracebacks; what is longer is not. */
const SOURCE_BYTES_MAX = 64 * 1024;

/** The module's text, and where its lines come from. */
export async function bundle({ project, entry, name, sdk, work, esbuild }) {
  const quote = (file) => JSON.stringify(file.split(path.sep).join("/"));
  const contents = [
    `import ${quote(path.join(sdk, "lib/globals.js"))};`,
    `import * as exported from ${quote(`./${entry}`)};`,
    `import { plugin } from ${quote(path.join(sdk, "lib/guest.js"))};`,
    `export const tasks = plugin(exported, ${JSON.stringify(name)}, globalThis.taskhostMap);`,
  ].join("\n");
  const options = {
    stdin: { contents, resolveDir: project, sourcefile: "taskhost:entry", loader: "js" },
    absWorkingDir: project,
    outfile: path.join(work, BUNDLE),
    bundle: true,
    write: false,
    format: "esm",
    platform: "browser",
    target: "es2022",
    // The engine's own promises do not run, see lib/loop.js.
    supported: { "async-await": false, "async-generator": false, "for-await": false, "top-level-await": false },
    keepNames: true,
    charset: "utf8",
    sourcemap: "external",
    sourcesContent: false,
    legalComments: "none",
    logLevel: "silent",
    alias: { taskhost: sdk },
    define: { "process.env.NODE_ENV": '"production"' },
    external: ["wasi:*", "wqjs:*", "taskhost:*"],
    plugins: [builtins, signatures(project, sdk, fs, path)],
    nodePaths: [process.env.TASKHOST_NODE_MODULES].filter(Boolean),
  };
  let built = await attempt(esbuild, options);
  // What is said is said of the sources as they were written.
  if (built.failures.length > 0 || built.warnings.length > 0) {
    const plain = await attempt(esbuild, { ...options, plugins: [builtins] });
    if (plain.failures.length > 0) throw new Failure(await shown(esbuild, plain.failures, "error"));
    process.stderr.write(await shown(esbuild, plain.warnings, "warning"));
    if (built.failures.length > 0) built = plain;
  }
  const [map, module] = ["map", "js"].map((end) => built.outputFiles.find((file) => file.path.endsWith(`.${end}`)).text);
  const { sources, mappings } = JSON.parse(map);
  const known = sources.map((source) => described(path.resolve(work, source), project, sdk));
  const lines = segments(mappings).map((line) => line.filter(([, source]) => known[source].name !== ""));
  // The map itself is the first line.
  const places = { bundle: BUNDLE, sources: known, lines: `;${compact(lines).replace(/;+$/, "")}` };
  return { places, module: `globalThis.taskhostMap = ${JSON.stringify(places)};\n${module}` };
}

async function attempt(esbuild, options) {
  try {
    return { failures: [], ...(await esbuild.build(options)) };
  } catch (error) {
    if (!Array.isArray(error.errors)) throw error;
    return { failures: error.errors, warnings: error.warnings };
  }
}

const shown = async (esbuild, messages, kind) => (await esbuild.formatMessages(messages, { kind, color: Boolean(process.stderr.isTTY) })).join("");

/** Frames of the SDK are nobody's business: they have no name. */
function described(file, project, sdk) {
  if (file.startsWith(`${sdk}${path.sep}`) || !fs.existsSync(file)) return { name: "" };
  const name = path.relative(project, file).split(path.sep).join("/");
  const text = fs.readFileSync(file, "utf8");
  return name.includes("node_modules/") || text.length > SOURCE_BYTES_MAX ? { name } : { name, text };
}

const INSTEAD = {
  fs: "files are not there",
  http: "use fetch() or request()",
  https: "use fetch() or request()",
  crypto: "use the global crypto.randomUUID() and crypto.getRandomValues()",
  url: "use the global URL",
  util: "use TextEncoder, TextDecoder, structuredClone",
  timers: "use setTimeout(), or sleep() of taskhost",
  child_process: "there are no other processes",
};

/** What only Node.js has is told where it is imported. */
const builtins = {
  name: "taskhost",
  setup(build) {
    const names = builtinModules.filter((name) => !name.startsWith("_")).map((name) => name.replace("/", "\\/"));
    build.onResolve({ filter: new RegExp(`^(node:.*|${names.join("|")})$`) }, async ({ path: name, importer, resolveDir, kind, pluginData }) => {
      if (pluginData === "asked") return undefined;
      // A package of that name may be installed, such as `buffer` or `events`.
      const installed = name.startsWith("node:") ? undefined : await build.resolve(name, { importer, resolveDir, kind, pluginData: "asked" });
      if (installed !== undefined && installed.errors.length === 0) return installed;
      const plain = name.replace(/^node:/, "");
      const hint = INSTEAD[plain.split("/")[0]];
      return { errors: [{ text: `"${name}" is a module of Node.js, and a task does not run in Node.js${hint ? `: ${hint}` : ""}` }] };
    });
  },
};
