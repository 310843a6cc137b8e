// Everything that was recorded, in order, and found by what is in it.
import { count, duration, h, plural } from "./dom.js";
import { anywhere } from "./tree.js";
import { VirtualList } from "./virtual.js";
import { described } from "./words.js";

/** Fields of an event that say where it stands, and not what happened. */
export const META = new Set(["n", "commit", "at", "kind", "size"]);

/** The list of events; `chosen(event)` is told which one is to be shown whole. */
export class EventsView {
  constructor(chosen) {
    this.find = h("input", {
      type: "search",
      placeholder: "Find in events and values",
      "aria-label": "Find in events and values",
      oninput: () => this.draw(),
    });
    this.found = h("span", { class: "quiet", role: "status" });
    this.rows = new VirtualList({
      label: "Events",
      height: 30,
      className: "events",
      chosen,
      empty: () => (this.find.value ? "No event holds that." : "No events."),
      render: (event) => {
        const [tone, title, rest] = described(event);
        const gone = this.voided.has(event.n) ? h("span", { class: "note" }, "counts no more") : null;
        return [
          h("span", { class: "n" }, event.n),
          h("span", { class: "num when" }, duration(event.at - this.history.events[0].at)),
          h("span", { class: `dot ${tone}` }),
          h("span", { class: "kind" }, event.kind),
          h("span", { class: "name" }, title),
          gone,
          h("span", { class: "rest" }, rest),
        ];
      },
    });
    this.element = h(
      "div",
      { class: "event-view" },
      h("div", { class: "tools" }, this.find, this.found),
      this.rows.element,
    );
  }

  show(history) {
    this.history = history;
    this.voided = history.voided;
    this.draw();
  }

  draw() {
    const needle = this.find.value.trim().toLowerCase();
    const all = this.history.events;
    const events = needle
      ? all.filter(
          (event) =>
            event.kind.toLowerCase().includes(needle) ||
            Object.entries(event).some(([name, value]) => !META.has(name) && anywhere(value, needle, { items: 2_000 })),
        )
      : all;
    this.found.textContent = needle
      ? `${count(events.length)} of ${plural(all.length, "event")}`
      : plural(all.length, "event");
    this.rows.set(events, (a, b) => a.n === b.n);
  }
}
