// Text as UTF-8 and back.

export class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    text = String(text).toWellFormed();
    const bytes = new Uint8Array(text.length * 3);
    let length = 0;
    for (let at = 0; at < text.length; at += 1) {
      let code = text.charCodeAt(at);
      if (code < 0x80) {
        bytes[length++] = code;
        continue;
      }
      if (code >= 0xd800 && code < 0xdc00) {
        at += 1;
        code = 0x10000 + ((code - 0xd800) << 10) + (text.charCodeAt(at) - 0xdc00);
        bytes[length++] = 0xf0 | (code >> 18);
        bytes[length++] = 0x80 | ((code >> 12) & 0x3f);
        bytes[length++] = 0x80 | ((code >> 6) & 0x3f);
      } else if (code < 0x800) {
        bytes[length++] = 0xc0 | (code >> 6);
      } else {
        bytes[length++] = 0xe0 | (code >> 12);
        bytes[length++] = 0x80 | ((code >> 6) & 0x3f);
      }
      bytes[length++] = 0x80 | (code & 0x3f);
    }
    return bytes.slice(0, length);
  }

  encodeInto(text, into) {
    const bytes = this.encode(text);
    const written = Math.min(bytes.length, into.length);
    into.set(bytes.subarray(0, written));
    return { read: text.length, written };
  }
}

const LATIN = ["latin1", "iso-8859-1", "windows-1252", "ascii", "us-ascii"];

export class TextDecoder {
  constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
    const name = String(label).trim().toLowerCase();
    if (name !== "utf-8" && name !== "utf8" && !LATIN.includes(name)) throw new RangeError(`TextDecoder knows UTF-8 and Latin-1, not '${label}'`);
    this.encoding = LATIN.includes(name) ? "windows-1252" : "utf-8";
    this.fatal = fatal;
    this.ignoreBOM = ignoreBOM;
  }

  decode(input = new Uint8Array()) {
    const bytes = ArrayBuffer.isView(input) ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength) : new Uint8Array(input);
    const units = [];
    const parts = [];
    const flush = () => parts.push(String.fromCharCode.apply(null, units.splice(0)));
    for (let at = 0; at < bytes.length; ) {
      if (units.length > 8000) flush();
      const byte = bytes[at];
      at += 1;
      if (byte < 0x80 || this.encoding !== "utf-8") {
        units.push(byte);
        continue;
      }
      const more = byte >= 0xf0 && byte < 0xf5 ? 3 : byte >= 0xe0 && byte < 0xf0 ? 2 : byte >= 0xc2 && byte < 0xe0 ? 1 : 0;
      let code = more === 0 ? -1 : byte & (0x3f >> more);
      let taken = 0;
      for (; code >= 0 && taken < more && at + taken < bytes.length; taken += 1) {
        const next = bytes[at + taken];
        const least = taken > 0 ? 0x80 : { 0xe0: 0xa0, 0xf0: 0x90 }[byte] ?? 0x80;
        const most = taken > 0 ? 0xbf : { 0xed: 0x9f, 0xf4: 0x8f }[byte] ?? 0xbf;
        if (next < least || next > most) break;
        code = (code << 6) | (next & 0x3f);
      }
      at += taken;
      if (code < 0 || taken < more) {
        if (this.fatal) throw new TypeError("the bytes are no UTF-8");
        code = 0xfffd;
      }
      if (code > 0xffff) units.push(0xd800 + ((code - 0x10000) >> 10), 0xdc00 + ((code - 0x10000) & 0x3ff));
      else units.push(code);
    }
    flush();
    const text = parts.join("");
    return !this.ignoreBOM && this.encoding === "utf-8" && text.startsWith("\ufeff") ? text.slice(1) : text;
  }
}
