// Finds what the build needs, and says how to get it.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import { pathToFileURL } from "node:url";

import { Failure } from "./failure.mjs";

/** Newer ones may work; these are tried. */
const VERSIONS = { esbuild: "0.28.2", "componentize-qjs": "0.4.5" };

export class Tools {
  constructor(project, sdk) {
    this.folders = [path.join(project, "node_modules"), process.env.TASKHOST_NODE_MODULES, path.join(sdk, "node_modules")].filter(Boolean);
    const listing = path.join(project, "package.json");
    const { dependencies, devDependencies } = fs.existsSync(listing) ? JSON.parse(fs.readFileSync(listing, "utf8")) : {};
    this.listed = new Set(Object.keys({ ...dependencies, ...devDependencies }));
  }

  /** The folder of a package; nothing if it is not installed. */
  find(name) {
    return this.folders.map((folder) => path.join(folder, name)).find((folder) => fs.existsSync(path.join(folder, "package.json")));
  }

  require(...names) {
    const missing = names.filter((name) => this.find(name) === undefined);
    if (missing.length === 0) return;
    const install = missing.map((name) => `${name}@${VERSIONS[name]}`).join(" ");
    const command = missing.every((name) => this.listed.has(name)) ? "npm install" : `npm install --save-dev ${install}`;
    throw new Failure(`not installed: ${missing.join(", ")}\nrun this in the plugin's folder: ${command}`);
  }

  version(name) {
    return JSON.parse(fs.readFileSync(path.join(this.find(name), "package.json"), "utf8")).version;
  }

  async load(name) {
    const require = createRequire(pathToFileURL(path.join(path.dirname(this.find(name)), "_.js")));
    try {
      return await import(pathToFileURL(require.resolve(name)));
    } catch (error) {
      throw new Failure(`${name} cannot be loaded: ${error.message}\nits part for this machine may be missing: npm install --include=optional`);
    }
  }
}
