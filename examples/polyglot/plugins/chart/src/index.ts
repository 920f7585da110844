// Draws charts.

import { task } from "taskhost";

const BAR = 24;
const NAMES = 140;
const WIDTH = 480;

export const bars = task(
  { name: "chart.bars", summary: "Draws a bar for each row of a name and a number, as SVG.", timeLimit: 20 },
  (rows: [string, number][], title: string = "") => {
    const most = Math.max(1, ...rows.map(([, value]) => value));
    const drawn = rows.map(([name, value], row) => {
      const top = (row + 1) * BAR;
      const width = Math.round(((WIDTH - NAMES) * value) / most);
      return [
        `<text x="${NAMES - 8}" y="${top + 16}" text-anchor="end">${escaped(name)}</text>`,
        `<rect x="${NAMES}" y="${top + 3}" width="${width}" height="${BAR - 6}" fill="#4a7"/>`,
        `<text x="${NAMES + width + 6}" y="${top + 16}">${value}</text>`,
      ].join("");
    });
    const height = (rows.length + 1) * BAR + 8;
    return [
      `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH + 60}" height="${height}" font-family="sans-serif" font-size="13">`,
      `<text x="8" y="16" font-weight="bold">${escaped(title)}</text>`,
      ...drawn,
      "</svg>",
    ].join("\n");
  },
);

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
