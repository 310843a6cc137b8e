// Elements, and texts as people read them. Whatever comes from a history becomes a text node and nothing else.
import { BlobRef, Float, Registered, Time, hex } from "../reader/index.js";

const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;

/** A text with what can't be seen, or turns what stands beside it around, shown as its number. */
export const visible = (text) => text.replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** A message as a sentence: they begin small, since others put theirs in front of them. */
export const sentence = (text) => oneLine(text.charAt(0).toUpperCase() + text.slice(1));

/** The same on one line. */
export const oneLine = (text) =>
  visible(text)
    .replace(/[\n\r]+/g, " ↵ ")
    .replace(/\t/g, " ");

/** An element. A property that begins with `on` is a listener, `style` an object; a child is a node, a text or nothing. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  setAll(element, properties);
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** The same of SVG. */
export function svg(tag, properties = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setAll(element, properties);
  element.append(...children.flat(Infinity).filter(Boolean));
  return element;
}

function setAll(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.entries(value).forEach(([key, each]) => element.style.setProperty(key, each));
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
}

/** Puts `children` in the place of what an element holds. */
export const fill = (element, ...children) =>
  element.replaceChildren(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );

export const button = (text, onclick, more = {}) => h("button", { type: "button", onclick, ...more }, text);

const TWO = (n) => String(n).padStart(2, "0");

/** A length of time in the two largest units that say something. */
export function duration(ms) {
  if (ms < 0) return `-${duration(-ms)}`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 60) return `${minutes} min ${TWO(Math.floor((ms % 60_000) / 1000))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${TWO(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${TWO(hours % 24)} h`;
}

/** A moment in this place's time. */
export function moment(ms) {
  const date = new Date(Number(ms));
  if (Number.isNaN(date.getTime())) return String(ms);
  return `${date.getFullYear()}-${TWO(date.getMonth() + 1)}-${TWO(date.getDate())} ${TWO(date.getHours())}:${TWO(date.getMinutes())}:${TWO(date.getSeconds())}`;
}

const UNITS = [
  [86_400_000, "d"],
  [3_600_000, "h"],
  [60_000, "min"],
  [1000, "s"],
];

/** How long ago, or until when, in one unit. */
export function ago(ms, now = Date.now()) {
  const gone = now - Number(ms);
  const [unit, name] = UNITS.find(([size]) => Math.abs(gone) >= size) ?? [1, ""];
  if (unit === 1) return "now";
  const text = `${Math.round(Math.abs(gone) / unit)} ${name}`;
  return gone > 0 ? `${text} ago` : `in ${text}`;
}

export const count = (n) => Number(n).toLocaleString("en");

/** Millionths of a dollar, with the cents and what there is behind them. */
export const dollars = (micro) => `$${(Number(micro) / 1e6).toFixed(6).replace(/0{1,4}$/, "")}`;
export const bytesOf = (n) =>
  n < 1024 ? `${n} B` : n < 1048576 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1048576).toFixed(1)} MiB`;
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** A value on one line, at most about `most` characters of it. */
export function preview(value, most = 90) {
  const text = oneLine(short(value, most));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function short(value, most) {
  if (typeof value === "string") return JSON.stringify(value.slice(0, most));
  if (value === null || value === undefined) return "null";
  if (typeof value !== "object") return String(value);
  if (value instanceof Float)
    return Object.is(value.value, -0)
      ? "-0.0"
      : Math.abs(value.value) < 1e15
        ? value.value.toFixed(1)
        : String(value.value);
  if (value instanceof Time) return String(value);
  if (value instanceof Uint8Array) return `bytes ${hex(value.subarray(0, 16))}${value.length > 16 ? "…" : ""}`;
  if (value instanceof BlobRef) return `a large value, ${bytesOf(Number(value.size))}`;
  if (value instanceof Registered) return `<${value.name}> ${short(value.value, most)}`;
  let left = most;
  const parts = [];
  for (const [key, each] of entriesOf(value)) {
    const part = Array.isArray(value) ? short(each, left) : `${key}: ${short(each, left)}`;
    parts.push(part);
    left -= part.length + 2;
    if (left < 0) break;
  }
  return Array.isArray(value) ? `[${parts.join(", ")}]` : `{${parts.join(", ")}}`;
}

/** The items of a list or map, each with its key. */
export function entriesOf(value) {
  if (Array.isArray(value)) return value.map((each, i) => [i, each]);
  if (value instanceof Map) return [...value];
  if (value instanceof Registered)
    return [
      ["name", value.name],
      ["value", value.value],
    ];
  return Object.entries(value);
}

/** Whether a value has items of its own. */
export const hasItems = (value) =>
  value !== null &&
  typeof value === "object" &&
  !(value instanceof Float || value instanceof Time || value instanceof Uint8Array || value instanceof BlobRef);

/** Says something to who reads with their ears. */
export function announce(text) {
  document.getElementById("said").textContent = text;
}
