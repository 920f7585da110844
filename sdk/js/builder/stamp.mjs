// Remembers what a component was made of. The engine is loaded with a seed of its own each time, so the same sources give
// other bytes; a worker that watches the file would take them for something new.

import { createHash } from "node:crypto";
import fs from "node:fs";

export class Stamp {
  constructor(file, made, inputs) {
    this.file = file;
    this.made = made;
    this.inputs = hash(JSON.stringify(inputs));
  }

  /** True if the component is there, unchanged, and was made of the same. */
  holds() {
    if (!fs.existsSync(this.file) || !fs.existsSync(this.made)) return false;
    return fs.readFileSync(this.file, "utf8") === this.text(fs.readFileSync(this.made));
  }

  set(component) {
    fs.writeFileSync(this.file, this.text(component));
  }

  text(component) {
    return `${this.inputs} ${hash(component)}\n`;
  }
}

const hash = (content) => createHash("sha256").update(content).digest("hex");
