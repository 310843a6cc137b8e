// The list of runs: found by a text, by status, in an order.
import { ago, button, count, fill, h, moment, oneLine, plural } from "./dom.js";
import { VirtualList } from "./virtual.js";
import { chip, waitsOf } from "./words.js";

const STATUS_NAMES = ["running", "suspended", "paused", "failed", "completed", "cancelled"];

/** The list in `place`; `go(id)` is told which run was chosen, `besides()` that what stands beside them is to be shown. */
export class RunsPane {
  constructor(place, go, besides) {
    this.records = [];
    this.status = "";
    this.chosen = null; // the id of the run that is looked at
    this.list = new VirtualList({
      label: "Runs",
      height: 52,
      className: "runs",
      chosen: (record) => go(record.id),
      follows: false,
      empty: () => (this.records.length ? "No run is like that." : "There are no runs here yet."),
      render: (record) => this.row(record),
    });
    this.search = h("input", {
      type: "search",
      placeholder: "id, workflow or attribute",
      "aria-label": "Find runs",
      oninput: () => this.filter(),
    });
    this.order = h(
      "select",
      { "aria-label": "Order", onchange: () => this.filter() },
      h("option", { value: "new" }, "newest first"),
      h("option", { value: "old" }, "oldest first"),
      h("option", { value: "id" }, "by id"),
    );
    this.roots = h("input", { type: "checkbox", onchange: () => this.filter() });
    this.chips = h("div", { class: "statuses", role: "group", "aria-label": "Only runs that are" });
    this.beside = button("", besides, { class: "small", hidden: true });
    this.found = h("p", { class: "quiet found", role: "status" });
    fill(
      place,
      h(
        "div",
        { class: "filters" },
        this.search,
        this.chips,
        h("div", { class: "row-of" }, this.order, h("label", {}, this.roots, " only roots"), this.found),
        this.beside,
      ),
      this.list.element,
    );
  }

  /** Begins anew, for another source. */
  clear() {
    this.records = [];
    this.status = "";
    this.search.value = "";
  }

  set(records) {
    this.records = records;
    this.filter();
  }

  /** What is known of one run by now. */
  update(id, record) {
    const n = this.records.findIndex((each) => each.id === id);
    if (n < 0 || this.records[n].status === record.status) return false;
    this.records[n] = { ...this.records[n], ...record };
    this.filter();
    return true;
  }

  /** Says how many schedules, boards and budgets there are beside the runs; null where it is not known: nothing is said. */
  offer(number) {
    this.beside.hidden = number === null;
    this.beside.textContent = number
      ? plural(number, "schedule, board or budget", "schedules, boards and budgets")
      : "Schedules and boards";
  }

  filter() {
    const needle = this.search.value.trim().toLowerCase();
    const counts = new Map();
    const searched = this.records.filter(
      (record) => (!this.roots.checked || !record.parent) && (!needle || matches(record, needle)),
    );
    for (const record of searched) counts.set(record.status, (counts.get(record.status) ?? 0) + 1);
    const names = [...STATUS_NAMES, ...[...counts.keys()].filter((name) => !STATUS_NAMES.includes(name))];
    const focused = document.activeElement?.dataset?.status;
    fill(
      this.chips,
      names.map((name) =>
        h(
          "button",
          {
            type: "button",
            class: `toggle ${name}`,
            "data-status": name,
            "aria-pressed": this.status === name ? "true" : "false",
            onclick: () => {
              this.status = this.status === name ? "" : name;
              this.filter();
            },
          },
          name,
          " ",
          h("span", { class: "count" }, count(counts.get(name) ?? 0)),
        ),
      ),
    );
    if (focused) this.chips.querySelector(`[data-status="${focused}"]`)?.focus();
    const shown = this.status ? searched.filter((record) => record.status === this.status) : searched;
    const by = {
      new: (a, b) => (b.created_at || 0) - (a.created_at || 0),
      old: (a, b) => (a.created_at || 0) - (b.created_at || 0),
      id: (a, b) => (a.id < b.id ? -1 : 1),
    };
    shown.sort((a, b) => by[this.order.value](a, b) || (a.id < b.id ? -1 : 1));
    this.found.textContent =
      shown.length === this.records.length
        ? plural(shown.length, "run")
        : `${count(shown.length)} of ${plural(this.records.length, "run")}`;
    this.list.set(shown, (a, b) => a.id === b.id);
    this.mark();
  }

  row(record) {
    const waits =
      record.unreadable ??
      (record.waiting?.length
        ? `waits for ${waitsOf(record).slice(0, 3).join(", ")}`
        : record.attributes
            .slice(0, 3)
            .map(([name, value]) => `${name}=${value}`)
            .join(" "));
    return [
      h("span", { class: "first" }, h("span", { class: "id" }, oneLine(record.id)), chip(record.status)),
      h(
        "span",
        { class: "second" },
        h("span", { class: "grow" }, oneLine(`${record.workflow}${waits ? ` · ${waits}` : ""}`)),
        h("span", { title: moment(record.updated_at) }, record.updated_at ? ago(record.updated_at) : ""),
      ),
    ];
  }

  mark() {
    const n = this.list.items.findIndex((record) => record.id === this.chosen);
    this.list.picked = n;
    this.list.draw();
  }
}

function matches(record, needle) {
  return (
    `${record.id} ${record.workflow} ${record.status}`.toLowerCase().includes(needle) ||
    record.attributes.some(([name, value]) => `${name}=${value}`.toLowerCase().includes(needle)) ||
    (record.waiting ?? []).some((text) => text.toLowerCase().includes(needle))
  );
}
