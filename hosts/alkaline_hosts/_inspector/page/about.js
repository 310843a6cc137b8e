// What is known of a run beside its history: whose it is, what it was given, and its family.
import { ago, button, bytesOf, count, fill, h, moment, oneLine, plural } from "./dom.js";
import { tree } from "./tree.js";
import { chip } from "./words.js";

/** `records()` gives the runs of the source, `go(id)` leads to one. */
export class AboutView {
  constructor(records, go) {
    Object.assign(this, { records, go });
    this.element = h("div", { class: "about" });
  }

  /** The id of a run, as a way to it where it is there. */
  link(id) {
    return this.records().some((record) => record.id === id)
      ? button(oneLine(id), () => this.go(id), { class: "link" })
      : oneLine(id);
  }

  show({ record, history, timeline, requests }) {
    const header = history.header;
    const children = timeline.spans.filter((span) => span.kind === "child");
    const row = (name, value) =>
      value === null || value === undefined || value === "" ? null : [h("dt", {}, name), h("dd", {}, value)];
    const last = history.events.at(-1);
    fill(
      this.element,
      h(
        "dl",
        {},
        row("id", oneLine(record.id)),
        row("random id", header.get("run")),
        row("workflow", `${oneLine(record.workflow)}, version ${record.version}`),
        row("generation", Number(header.get("generation")) || null),
        row("created", `${moment(record.created_at)}, ${ago(record.created_at)}`),
        row("written last", `${moment(record.updated_at)}, ${ago(record.updated_at)}`),
        row("wakes", record.wake_at ? `${moment(record.wake_at)}, ${ago(record.wake_at)}` : null),
        row("owner", record.owner ? oneLine(record.owner) : record.owner === null ? "nobody now" : null),
        row("owners so far", record.epoch === undefined ? null : count(record.epoch)),
        row("passes from the top", record.attempt === undefined ? null : count(record.attempt)),
        row("parent", record.parent ? this.link(record.parent) : null),
        row(
          "forked from",
          header.get("forked_from")
            ? `${header.get("forked_from")[0]} at commit ${header.get("forked_from")[1]}`
            : null,
        ),
        row(
          "history",
          `${plural(history.events.length, "event")} in ${plural(history.length, "commit")}, ${bytesOf(history.bytes)}`,
        ),
        row("head", h("code", {}, history.head)),
        row(
          "asked and not taken yet",
          requests.length
            ? requests
                .map((each) => `${each.kind} ${each.name}`.trim())
                .map(oneLine)
                .join(", ")
            : null,
        ),
      ),
      record.attributes.length ? tree("attributes", new Map(record.attributes), 3) : null,
      tree("input", history.events[0].input, 3),
      last.kind === "Completed"
        ? tree("result", last.value, 3)
        : last.kind === "Failed"
          ? tree("failure", last.failure, 3)
          : null,
      this.family(record, children),
    );
  }

  family(record, children) {
    if (!children.length && !record.parent) return null;
    const byParent = new Map();
    for (const each of this.records())
      if (each.parent) byParent.set(each.parent, [...(byParent.get(each.parent) ?? []), each]);
    const node = (each, depth) =>
      h(
        "li",
        {},
        each.id === record.id ? h("strong", {}, oneLine(each.id)) : this.link(each.id),
        " ",
        chip(each.status),
        " ",
        h("span", { class: "quiet" }, oneLine(each.workflow ?? "")),
        depth < 8 && byParent.has(each.id)
          ? h(
              "ul",
              {},
              byParent
                .get(each.id)
                .slice(0, 200)
                .map((child) => node(child, depth + 1)),
            )
          : null,
      );
    const known = new Set(this.records().map((each) => each.id));
    const elsewhere = children
      .filter((span) => span.child && !known.has(span.child))
      .map((span) => ({ id: span.child, status: span.end === null ? "running" : span.status, workflow: span.name }));
    return h(
      "section",
      { class: "family" },
      h("h3", {}, "Family"),
      record.parent ? h("p", {}, "child of ", this.link(record.parent)) : null,
      h(
        "ul",
        {},
        node(record, 0),
        elsewhere.map((each) => node(each, 1)),
      ),
    );
  }
}
