/** How the data of a call travels: in the body as JSON, form or text, or in the query of a method without a body. */

import { type Json, type JsonValue } from "taskhost";

export const inQuery = (method: string) => ["GET", "HEAD", "DELETE"].includes(method);

export interface Encoded {
  target: string;
  body: string | undefined;
  type: string | undefined;
}

export function encoded(url: string, method: string, data: Json | undefined, encoding: string): Encoded {
  if (!["json", "form", "text"].includes(encoding)) throw new TypeError(`encoding is "json", "form" or "text", not ${JSON.stringify(encoding)}`);
  if (data === undefined) return { target: url, body: undefined, type: undefined };
  if (inQuery(method)) {
    const target = new URL(url);
    for (const [name, value] of pairs(data, `the query of a ${method}`)) target.searchParams.append(name, value);
    return { target: target.href, body: undefined, type: undefined };
  }
  switch (encoding) {
    case "json":
      return { target: url, body: data.text, type: "application/json" };
    case "form":
      return { target: url, body: String(new URLSearchParams(pairs(data, "a form"))), type: "application/x-www-form-urlencoded" };
    default: {
      const text = data.parse();
      if (typeof text !== "string") throw new TypeError("data that is sent as text has to be a text");
      return { target: url, body: text, type: "text/plain; charset=utf-8" };
    }
  }
}

/** Names and values; a list is its name several times over. */
function pairs(data: Json, where: string): [string, string][] {
  const fields = data.parse();
  if (fields === null || typeof fields !== "object" || Array.isArray(fields)) throw new TypeError(`${where} takes an object`);
  return Object.entries(fields).flatMap(([name, value]) => (Array.isArray(value) ? value : [value]).map((one): [string, string] => [name, plain(one, name, where)]));
}

function plain(value: JsonValue, name: string, where: string): string {
  if (value === null) return "";
  if (typeof value === "object") throw new TypeError(`${where} has no place for what is in '${name}'`);
  return String(value);
}
