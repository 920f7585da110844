// URLs with a host, as the web platform takes them apart. No other schemes are resolved, and names are not encoded as
// Punycode.

const PARTS = /^([A-Za-z][A-Za-z0-9+.-]*:)?(?:\/\/([^/?#\\]*))?([^?#]*)(\?[^#]*)?(#.*)?$/s;
const PORTS = { "http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "ftp:": "21" };

/** Encodes what may not stand in a part, and leaves what is encoded already. */
const encode = (text, more = "") =>
  text.replace(/[^\x21-\x7e]|["<>`{}]/gu, (char) => (more.includes(char) ? char : encodeURIComponent(char.toWellFormed()))).replace(/"/g, "%22");

export class URL {
  #params;

  constructor(url, base) {
    const text = String(url).trim().replace(/[\t\n\r]/g, "");
    let [, protocol, authority, path, search = "", hash = ""] = PARTS.exec(text) ?? [];
    const from = base === undefined ? undefined : new URL(base);
    if (protocol === undefined || (authority === undefined && protocol.toLowerCase() === from?.protocol)) {
      if (from === undefined) throw new TypeError(`Invalid URL: ${text}`);
      protocol = from.protocol;
      if (authority === undefined) {
        authority = from._authority();
        if (path === "" && search === "") search = from.search;
        if (path === "") path = from.pathname;
        else if (!path.startsWith("/")) path = from.pathname.replace(/[^/]*$/, "") + path;
      }
    }
    this.protocol = protocol.toLowerCase();
    if (authority === undefined) throw new TypeError(`Invalid URL: ${text} names no host`);
    const found = /^(?:([^@]*)@)?(\[[0-9A-Fa-f:.]+\]|[^:@[\]]*)(?::([0-9]*))?$/.exec(authority);
    if (found === null || found[2] === "" || Number(found[3] ?? 0) > 65535 || /[\s<>^|%]/.test(found[2])) {
      throw new TypeError(`Invalid URL: ${text}`);
    }
    const [username = "", ...password] = (found[1] ?? "").split(":");
    this.username = encode(username);
    this.password = encode(password.join(":"));
    this.hostname = found[2].toLowerCase();
    const port = found[3] ? String(Number(found[3])) : "";
    this.port = port === PORTS[this.protocol] ? "" : port;
    this.pathname = encode(resolved(path.replace(/\\/g, "/"))) || "/";
    this.hash = hash === "#" ? "" : encode(hash);
    this.#params = new URLSearchParams(search);
    this._search = search === "?" ? "" : encode(search);
    this.#params._changed = () => (this._search = this.#params.size === 0 ? "" : `?${this.#params}`);
  }

  get searchParams() {
    return this.#params;
  }

  get search() {
    return this._search;
  }

  set search(text) {
    text = String(text).replace(/^\?/, "");
    this.#params._pairs = new URLSearchParams(text)._pairs;
    this._search = text === "" ? "" : encode(`?${text}`);
  }

  get host() {
    return this.port === "" ? this.hostname : `${this.hostname}:${this.port}`;
  }

  get origin() {
    return `${this.protocol}//${this.host}`;
  }

  get href() {
    return `${this.protocol}//${this._authority()}${this.pathname}${this._search}${this.hash}`;
  }

  _authority() {
    const password = this.password === "" ? "" : `:${this.password}`;
    return this.username === "" && password === "" ? this.host : `${this.username}${password}@${this.host}`;
  }

  toString() {
    return this.href;
  }

  toJSON() {
    return this.href;
  }

  static canParse(url, base) {
    return URL.parse(url, base) !== null;
  }

  static parse(url, base) {
    try {
      return new URL(url, base);
    } catch {
      return null;
    }
  }
}

/** A path without `.` and `..`. */
function resolved(path) {
  const parts = [];
  const all = path.split("/");
  all.forEach((part, index) => {
    const is_last = index === all.length - 1;
    const plain = part.replace(/%2e/gi, ".");
    if (plain === "..") {
      if (parts.length > 1) parts.pop();
      if (is_last) parts.push("");
    } else if (plain === ".") {
      if (is_last) parts.push("");
    } else parts.push(part);
  });
  return parts.join("/");
}

const form = (text) =>
  encodeURIComponent(String(text).toWellFormed()).replace(/%20/g, "+").replace(/[!'()~]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);

const unform = (text) => {
  const spaced = text.replace(/\+/g, " ");
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
};

export class URLSearchParams {
  _changed = () => {};

  constructor(init = "") {
    if (typeof init === "string") {
      const parts = init.replace(/^\?/, "").split("&").filter((part) => part !== "");
      this._pairs = parts.map((part) => {
        const at = part.indexOf("=");
        return at === -1 ? [unform(part), ""] : [unform(part.slice(0, at)), unform(part.slice(at + 1))];
      });
    } else {
      const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
      this._pairs = Array.from(pairs, ([name, value]) => [String(name), String(value)]);
    }
  }

  get size() {
    return this._pairs.length;
  }

  append(name, value) {
    this._pairs.push([String(name), String(value)]);
    this._changed();
  }

  set(name, value) {
    const at = this._pairs.findIndex(([known]) => known === name);
    this._pairs = this._pairs.filter(([known], index) => known !== name || index === at);
    if (at === -1) this._pairs.push([String(name), String(value)]);
    else this._pairs[at] = [String(name), String(value)];
    this._changed();
  }

  delete(name) {
    this._pairs = this._pairs.filter(([known]) => known !== name);
    this._changed();
  }

  get(name) {
    return this._pairs.find(([known]) => known === name)?.[1] ?? null;
  }

  getAll(name) {
    return this._pairs.filter(([known]) => known === name).map(([, value]) => value);
  }

  has(name) {
    return this._pairs.some(([known]) => known === name);
  }

  sort() {
    this._pairs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
    this._changed();
  }

  forEach(act) {
    for (const [name, value] of this) act(value, name, this);
  }

  *entries() {
    yield* this._pairs;
  }

  *keys() {
    for (const [name] of this._pairs) yield name;
  }

  *values() {
    for (const [, value] of this._pairs) yield value;
  }

  [Symbol.iterator]() {
    return this.entries();
  }

  toString() {
    return this._pairs.map(([name, value]) => `${form(name)}=${form(value)}`).join("&");
  }
}
