// A value as a tree that opens level by level, and finds a text in it.
import { BlobRef, Float, Registered, Time, hex, typeOf } from "../reader/index.js";
import { bytesOf, button, entriesOf, fill, h, hasItems, oneLine, plural, preview, visible } from "./dom.js";

const AT_ONCE = 100;
const LONG_TEXT = 400;

const kindOfValue = (value) =>
  value !== null && typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype
    ? "map"
    : typeOf(value);

/** A value without items, as it is coloured. */
function leaf(value) {
  const kind = kindOfValue(value);
  if (typeof value === "string") return textLeaf(value);
  if (value instanceof Uint8Array)
    return h(
      "span",
      { class: "v bytes" },
      `${hex(value.subarray(0, 64))}${value.length > 64 ? "…" : ""} `,
      h("span", { class: "quiet" }, plural(value.length, "byte")),
    );
  if (value instanceof BlobRef)
    return h(
      "span",
      { class: "v quiet" },
      `a large value that is not here: ${bytesOf(Number(value.size))}, sha256 ${value.key.slice(0, 16)}…`,
    );
  const shown = value instanceof Time || value instanceof Float ? preview(value) : oneLine(String(value));
  return h("span", { class: `v ${kind}` }, shown);
}

function textLeaf(text) {
  if (text.length <= LONG_TEXT && !text.includes("\n")) return h("span", { class: "v text" }, `"${oneLine(text)}"`);
  const body = h(
    "pre",
    { class: "v text long", tabindex: "0", "aria-label": "a long text" },
    visible(text.slice(0, 4000)),
  );
  if (text.length <= 4000) return body;
  const more = button(
    `Show all ${text.length.toLocaleString("en")} characters`,
    () => {
      body.textContent = visible(text);
      more.remove();
    },
    { class: "small" },
  );
  return h("div", {}, body, more);
}

function summaryOf(value) {
  if (value instanceof Registered) return `<${oneLine(value.name)}>`;
  const entries = Array.isArray(value) ? value.length : value instanceof Map ? value.size : Object.keys(value).length;
  return Array.isArray(value) ? plural(entries, "item") : plural(entries, "field");
}

function node(key, value, open, needle) {
  const label =
    key === null ? null : h("span", { class: typeof key === "number" ? "k index" : "k" }, oneLine(String(key)));
  if (!hasItems(value)) {
    const found = needle && (contains(key, needle) || contains(value, needle));
    return h("li", { class: found ? "found" : null }, label, leaf(value));
  }
  const list = h("ul", {});
  const details = h(
    "details",
    {},
    h(
      "summary",
      {},
      label,
      h("span", { class: "quiet" }, summaryOf(value)),
      " ",
      h("span", { class: "brief" }, preview(value, 60)),
    ),
    list,
  );
  const draw = () => {
    if (!list.childElementCount) addItems(list, entriesOf(value), 0, needle);
  };
  details.addEventListener("toggle", () => details.open && draw());
  if (open || (needle && anywhere(value, needle))) {
    draw();
    details.open = true;
  }
  return h("li", {}, details);
}

function addItems(list, entries, from, needle) {
  for (const [key, each] of entries.slice(from, from + AT_ONCE)) list.append(node(key, each, false, needle));
  const left = entries.length - from - AT_ONCE;
  if (left <= 0) return;
  const more = h(
    "li",
    {},
    button(
      `Show ${Math.min(left, AT_ONCE)} more of ${left.toLocaleString("en")}`,
      () => {
        more.remove();
        addItems(list, entries, from + AT_ONCE, needle);
      },
      { class: "small" },
    ),
  );
  list.append(more);
}

const contains = (value, needle) =>
  value !== null && !hasItems(value) && preview(value, 4000).toLowerCase().includes(needle);

/** Whether a text is found in a value, its keys and all below it. */
export function anywhere(value, needle, left = { items: 20_000 }) {
  if (--left.items < 0) return false;
  if (!hasItems(value)) return contains(value, needle);
  return entriesOf(value).some(
    ([key, each]) => (typeof key === "string" && key.toLowerCase().includes(needle)) || anywhere(each, needle, left),
  );
}

/** The tree of a value, under a heading, with a search of its own where it is large. */
export function tree(title, value, level = 4) {
  const root = h("ul", { class: "tree" });
  const draw = (needle) => fill(root, node(null, value, true, needle));
  draw("");
  const search =
    hasItems(value) && entriesOf(value).length > 0
      ? h("input", {
          type: "search",
          placeholder: "Find in this value",
          "aria-label": `Find in ${title}`,
          oninput: (event) => draw(event.target.value.trim().toLowerCase()),
        })
      : null;
  const copy = button(
    "Copy",
    async () => {
      try {
        await navigator.clipboard.writeText(asText(value));
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Not allowed here";
      }
      setTimeout(() => (copy.textContent = "Copy"), 1500);
    },
    { class: "small", "aria-label": `Copy ${title}` },
  );
  return h("section", { class: "value" }, h("header", {}, h(`h${level}`, {}, title), search, copy), root);
}

/** A value as JSON text, with what JSON has not as text. */
export function asText(value) {
  return JSON.stringify(plainOf(value), null, 2) ?? "null";
}

function plainOf(value) {
  if (typeof value === "bigint") return value.toString();
  if (!hasItems(value))
    return value === null || ["string", "number", "boolean"].includes(typeof value) ? value : preview(value, 100_000);
  if (Array.isArray(value)) return value.map(plainOf);
  return Object.fromEntries(entriesOf(value).map(([key, each]) => [key, plainOf(each)]));
}
