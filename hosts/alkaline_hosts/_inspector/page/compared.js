// Two runs side by side.
import { compare } from "../reader/index.js";
import { button, fill, h, oneLine, plural } from "./dom.js";
import { fileSource } from "./sources.js";
import { tree } from "./tree.js";
import { VirtualList } from "./virtual.js";
import { described } from "./words.js";

const SEEN = new Set(["value", "payload", "input", "data", "failure", "name", "topic"]); // differ where everybody sees it
const NAMES = { args: "arguments" };
const WORDS = { same: "=", changed: "≠", removed: "−", added: "+" };

export class CompareView {
  constructor(idsOf, historyOf) {
    Object.assign(this, { idsOf, historyOf });
    this.only = true;
    this.list = new VirtualList({
      label: "Events of both runs",
      height: 30,
      className: "compared",
      render: (row) => this.row(row),
      chosen: (row) => this.open(row),
      empty: () =>
        this.result ? "Nothing differs but times, ids and drawn values." : "Choose another run to compare with.",
    });
    this.other = h("input", {
      list: "ids-to-compare",
      placeholder: "id of another run",
      "aria-label": "Compare with the run",
      autocomplete: "off",
      onchange: () => this.choose(this.other.value.trim()),
    });
    this.options = h("datalist", { id: "ids-to-compare" });
    this.file = h("input", {
      type: "file",
      hidden: true,
      "aria-label": "A bundle to compare with",
      onchange: () => this.fromFile(this.file.files[0]),
    });
    this.all = h("input", {
      type: "checkbox",
      onchange: (event) => {
        this.only = !event.target.checked;
        this.draw();
      },
    });
    this.said = h("p", { class: "said", role: "status" });
    this.detail = h("div", { class: "sides" });
    this.element = h(
      "div",
      { class: "compare" },
      h(
        "div",
        { class: "tools" },
        this.other,
        this.options,
        button("A file…", () => this.file.click()),
        this.file,
        h("label", {}, this.all, " Also what is the same"),
      ),
      this.said,
      this.list.element,
      this.detail,
    );
  }

  show(history) {
    this.history = history;
    fill(
      this.options,
      this.idsOf()
        .slice(0, 1000)
        .map((id) => h("option", { value: id })),
    );
    if (this.theirs) this.compare(this.name, this.theirs);
    else this.list.set([]);
  }

  async choose(id) {
    if (!id) return;
    await this.trying(async () => this.compare(id, await this.historyOf(id)));
  }

  async fromFile(file) {
    if (!file) return;
    await this.trying(async () => {
      const source = await fileSource(file.name, new Uint8Array(await file.arrayBuffer()));
      let first = null;
      await source.runs((page) => (first ??= page[0]));
      if (!first) throw new Error("there is no run in this file");
      const same = source.kind === "bundle" ? first.id : this.history.header.get("id");
      this.compare(`${same} of ${file.name}`, (await source.run(same)).history);
    });
  }

  async trying(work) {
    try {
      await work();
    } catch (error) {
      this.said.textContent = error.message;
    }
  }

  compare(name, history) {
    Object.assign(this, { name, theirs: history, result: compare(this.history, history) });
    fill(this.detail);
    this.draw();
  }

  draw() {
    if (!this.result) return;
    const { rows, differ } = this.result;
    this.said.textContent = differ
      ? `${plural(differ, "difference")} to ${this.name}; times, ids and drawn values do not count`
      : `the same as ${this.name}`;
    this.list.set(this.only ? rows.filter((row) => row.what !== "same") : rows);
  }

  row({ what, a, b, where }) {
    const side = (event, note) => {
      if (!event) return h("span", { class: "side none" });
      const [tone, title, rest] = described(event);
      return h(
        "span",
        { class: "side" },
        h("span", { class: "n" }, event.n),
        h("span", { class: `dot ${tone}` }),
        h("span", { class: "name" }, title),
        note ? h("span", { class: "note" }, note) : null,
        h("span", { class: "rest" }, rest),
      );
    };
    const note =
      where.length && !where.some((name) => SEEN.has(name))
        ? `other ${where.map((name) => NAMES[name] ?? name).join(", ")}`
        : "";
    return h(
      "span",
      { class: `pair ${what}` },
      side(a, ""),
      h("span", { class: "sign", "aria-label": what }, WORDS[what]),
      side(b, note),
    );
  }

  open({ a, b }) {
    const side = (event, title) =>
      event
        ? tree(title, new Map(Object.entries(event).filter(([name]) => !["n", "size", "header"].includes(name))), 3)
        : h("section", { class: "value" }, h("h3", {}, title), h("p", { class: "quiet" }, "has no such event"));
    fill(this.detail, side(a, "this run"), side(b, this.name));
  }
}
