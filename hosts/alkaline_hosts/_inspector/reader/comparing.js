// Two histories side by side: what both have, and what differs. Times, ids of runs and drawn values do not count.
import { BlobRef, Float, Registered, Time } from "./canonical.js";
import { hex } from "./sha256.js";

const ANYWAY = new Set(["n", "commit", "at", "size", "entry", "totals", "retry_at", "child"]);
const MOST_CELLS = 4_000_000; // of the table that aligns what is between the ends

/** A text that is the same for two values if they are the same. */
export function fingerprint(value) {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number" || typeof value === "bigint") return Object.is(value, -0) ? "-0" : String(value);
  if (value instanceof Float) return `${Object.is(value.value, -0) ? "-0" : value.value}f`;
  if (value instanceof Uint8Array) return `x${hex(value)}`;
  if (value instanceof Time) return `t${value.microseconds}`;
  if (value instanceof BlobRef) return `b${value.key}`;
  if (value instanceof Registered) return `r${JSON.stringify(value.name)}${fingerprint(value.value)}`;
  if (Array.isArray(value)) return `[${value.map(fingerprint)}]`;
  return `{${[...value].map(([key, each]) => `${JSON.stringify(key)}:${fingerprint(each)}`)}}`;
}

const HEADER_COUNTS = ["workflow", "version", "generation"];

/** What counts of an event, by name. */
function contentOf(event) {
  if (event.kind === "Started")
    return new Map([
      ...HEADER_COUNTS.map((name) => [name, String(event.header.get(name))]),
      ["input", fingerprint(event.input)],
    ]);
  if (event.kind === "Retried") return new Map();
  if (event.kind === "Drawn") return new Map([["what", event.what]]);
  return new Map(
    Object.entries(event)
      .filter(([name]) => !ANYWAY.has(name) && name !== "kind" && name !== "id")
      .map(([name, value]) => [name, fingerprint(value)]),
  );
}

/** The names of what is different in two events. */
function differences(a, b) {
  if (a.kind !== b.kind) return ["kind"];
  const [one, two] = [contentOf(a), contentOf(b)];
  return [...one.keys()].filter((name) => one.get(name) !== two.get(name));
}

/** What two events have in common if they are the same thing with another outcome: a step by its name, say. */
const keyOf = (event) =>
  `${event.kind.replace(/(Completed|Failed)$/, "") || "End"} ${event.name ?? event.topic ?? event.workflow ?? event.what ?? ""}`;

/** Pairs of places with the same key, by the longest common run of both; between ends that are the same anyway. */
function align(a, b) {
  let low = 0;
  while (low < a.length && low < b.length && a[low] === b[low]) low++;
  let [i, j] = [a.length, b.length];
  const tail = [];
  while (i > low && j > low && a[i - 1] === b[j - 1]) tail.push([--i, --j]);
  const pairs = Array.from({ length: low }, (_, n) => [n, n]);
  const [rows, columns] = [i - low, j - low];
  if (rows * columns > MOST_CELLS) {
    for (let n = 0; n < Math.min(rows, columns); n++) if (a[low + n] === b[low + n]) pairs.push([low + n, low + n]);
  } else if (rows && columns) pairs.push(...longestCommon(a, b, low, rows, columns));
  return [...pairs, ...tail.reverse()];
}

function longestCommon(a, b, low, rows, columns) {
  const width = columns + 1;
  const table = new Uint32Array((rows + 1) * width);
  for (let i = rows - 1; i >= 0; i--)
    for (let j = columns - 1; j >= 0; j--)
      table[i * width + j] =
        a[low + i] === b[low + j]
          ? table[(i + 1) * width + j + 1] + 1
          : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
  const pairs = [];
  for (let i = 0, j = 0; i < rows && j < columns;) {
    if (a[low + i] === b[low + j]) pairs.push([low + i++, low + j++]);
    else if (table[(i + 1) * width + j] >= table[i * width + j + 1]) i++;
    else j++;
  }
  return pairs;
}

/** Both histories in one list of rows: `a` and `b` are events, null where a side has none; `what` is same, changed (`where`: in which items), removed or added. */
export function compare(a, b) {
  const [left, right] = [a.events, b.events];
  const rows = [];
  let [i, j] = [0, 0];
  const apart = (to, until) => {
    while (i < to) rows.push({ what: "removed", a: left[i++], b: null, where: [] });
    while (j < until) rows.push({ what: "added", a: null, b: right[j++], where: [] });
  };
  for (const [x, y] of align(left.map(keyOf), right.map(keyOf))) {
    apart(x, y);
    const [one, two] = [left[i++], right[j++]];
    const where = differences(one, two);
    rows.push({ what: where.length ? "changed" : "same", a: one, b: two, where });
  }
  apart(left.length, right.length);
  return {
    rows,
    same: rows.every((row) => row.what === "same"),
    differ: rows.filter((row) => row.what !== "same").length,
  };
}
