// Lines of the task's log with a level. What they say is what console would print.

import { host } from "./host.js";

const LEVELS = ["trace", "debug", "info", "warn", "error", "critical"];

/** `logger.info("loaded", n, "rows")`: the worker adds level, task id and name. */
export const logger = Object.fromEntries(
  LEVELS.map((level) => [level, (...values) => write(level, values)]),
);

function write(level, values) {
  const { log } = host();
  if (log === undefined) {
    const method = { trace: "debug", critical: "error" }[level] ?? level;
    globalThis.console[method](...values);
  } else {
    log(level, "", values.map(show).join(" ").toWellFormed());
  }
}

/** One line for a value, as console writes it. */
export function show(value) {
  if (typeof value === "string") return value;
  return inspect(value, 0);
}

function inspect(value, depth) {
  switch (typeof value) {
    case "string":
      return JSON.stringify(value);
    case "bigint":
      return `${value}n`;
    case "function":
      return `[function ${value.name || "(anonymous)"}]`;
    case "object":
      break;
    default:
      return String(value);
  }
  if (value === null) return "null";
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  if (depth > 3) return "..";
  const entries = (all, one) => {
    const shown = all.slice(0, 100).map(one);
    return shown.concat(all.length > 100 ? [`.. ${all.length - 100} more`] : []).join(", ");
  };
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return `[${entries(Array.from(value), (each) => inspect(each, depth + 1))}]`;
  if (value instanceof Date) return value.toJSON();
  if (value instanceof Map || value instanceof Set) {
    return `${value.constructor.name}(${value.size}) [${entries([...value], (each) => inspect(each, depth + 1))}]`;
  }
  const name = value.constructor?.name;
  const prefix = name && name !== "Object" ? `${name} ` : "";
  return `${prefix}{${entries(Object.entries(value), ([key, each]) => `${key}: ${inspect(each, depth + 1)}`)}}`;
}
