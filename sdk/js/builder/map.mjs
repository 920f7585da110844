// Source maps: from lines and columns of the bundle to those of the sources.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** The segments of each line of the bundle: [column, source, line], only where the line of the source changes. */
export function segments(mappings) {
  let source = 0;
  let line = 0;
  return mappings.split(";").map((text) => {
    const found = [];
    let column = 0;
    for (const segment of text === "" ? [] : text.split(",")) {
      const [columns, sources, lines] = numbers(segment);
      column += columns;
      if (sources === undefined) continue;
      source += sources;
      line += lines;
      const last = found.at(-1);
      if (last === undefined || last[1] !== source || last[2] !== line) found.push([column, source, line]);
    }
    return found;
  });
}

function numbers(segment) {
  const values = [];
  let value = 0;
  let shift = 0;
  for (const char of segment) {
    const digit = DIGITS.indexOf(char);
    value += (digit & 31) << shift;
    if (digit & 32) {
      shift += 5;
      continue;
    }
    values.push(value & 1 ? -(value >> 1) : value >> 1);
    value = shift = 0;
  }
  return values;
}

/** As lib/traceback.js reads them. */
export const compact = (lines) => lines.map((line) => line.map((segment) => segment.map((number) => number.toString(36)).join(".")).join(" ")).join(";");
