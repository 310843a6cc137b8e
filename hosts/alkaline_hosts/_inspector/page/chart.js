// A run's timeline to scale: a row for each thing that took time, on an axis that can be drawn closer.
import { button, duration, fill, h, moment, oneLine, plural } from "./dom.js";
import { VirtualList } from "./virtual.js";
import { waitOf } from "./words.js";

const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5,
  432e5, 864e5, 1728e5, 6048e5, 2592e6, 31536e6,
];

/** Times as places from 0 to 1. `shortened`: long stretches in which nothing happens take less room than they lasted. */
class Scale {
  constructor(began, last, moments, shortened) {
    const span = Math.max(1, last - began);
    this.from = began;
    this.points = [...new Set([began, ...moments, last])]
      .filter((at) => at >= began && at <= last)
      .sort((a, b) => a - b);
    const lengths = this.points.slice(1).map((at, i) => at - this.points[i]);
    const weigh = shortened ? (ms) => Math.log1p(ms / (span / 1e5)) + 0.35 : (ms) => ms;
    const weights = lengths.map(weigh);
    const whole = weights.reduce((sum, each) => sum + each, 0) || 1;
    let at = 0;
    this.places = [0, ...weights.map((each) => (at += each / whole))];
    this.shortened = shortened;
    this.to = last > began ? last : began + 1;
  }

  place(at) {
    const { points, places } = this;
    if (!this.shortened || points.length < 2) return (at - this.from) / (this.to - this.from);
    let [low, high] = [0, points.length - 1];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (points[middle] <= at) low = middle;
      else high = middle;
    }
    const part = points[high] === points[low] ? 0 : (at - points[low]) / (points[high] - points[low]);
    return places[low] + Math.max(0, Math.min(1, part)) * (places[high] - places[low]);
  }
}

const KIND_NAMES = {
  retry: "retry",
  void: "failed",
  step: "step",
  timer: "timer",
  signal: "wait",
  child: "child",
  update: "update",
  paused: "paused",
  run: "run",
  open: "waits",
};

/** The chart of a timeline; `chosen(span)` is told when a row is chosen. */
export class Chart {
  constructor(chosen) {
    this.zoom = 1;
    this.shortened = false;
    this.axis = h("div", { class: "axis", "aria-hidden": "true" });
    this.list = new VirtualList({
      label: "Timeline",
      height: 28,
      className: "chart",
      head: this.axis,
      render: (row) => this.row(row),
      chosen: (row) => row.span && !row.span.waits && chosen(row.span),
      empty: "Nothing has taken time yet.",
    });
    this.list.headHeight = 26;
    this.list.drawn = () => this.drawAxis();
    const change = (zoom, shortened = this.shortened) => {
      this.zoom = Math.max(1, Math.min(4096, zoom));
      this.shortened = shortened;
      this.draw(true);
    };
    this.said = h("span", { class: "quiet" });
    this.toggle = h("input", { type: "checkbox", onchange: (event) => change(this.zoom, event.target.checked) });
    this.element = h(
      "div",
      { class: "timeline" },
      h(
        "div",
        { class: "tools" },
        h("label", {}, this.toggle, " Shorten waits"),
        h(
          "div",
          { class: "group", role: "group", "aria-label": "Zoom" },
          button("−", () => change(this.zoom / 2), { "aria-label": "Zoom out" }),
          button("Fit", () => change(1)),
          button("+", () => change(this.zoom * 2), { "aria-label": "Zoom in" }),
        ),
        this.said,
        legend(),
      ),
      this.list.element,
    );
    this.list.box.addEventListener(
      "wheel",
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        change(this.zoom * (event.deltaY < 0 ? 1.25 : 0.8));
      },
      { passive: false },
    );
    this.list.box.addEventListener("keydown", (event) => {
      if (event.key === "+" || event.key === "=") change(this.zoom * 2);
      else if (event.key === "-") change(this.zoom / 2);
      else if (event.key === "0") change(1);
      else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
        event.preventDefault();
        this.list.box.scrollLeft += event.key === "ArrowRight" ? 80 : -80;
      }
    });
    new ResizeObserver(() => this.draw()).observe(this.list.box);
  }

  /** Shows a timeline; `until` is its end, now for a run that goes on. `waiting`: what its record says it waits for. */
  show(timeline, until, waiting) {
    const open = new Set(timeline.spans.filter((span) => span.end === null).map((span) => span.kind));
    const waits = waiting
      .map(waitOf)
      .filter((wait) => !open.has(wait.kind))
      .map((wait, n) => ({
        id: "",
        kind: { signal: "signal", timer: "timer", child: "child" }[wait.kind] ?? "paused",
        name: wait.name || wait.text,
        start: timeline.last,
        end: null,
        status: "open",
        attempts: [],
        charges: [],
        first: -1 - n,
        last: timeline.lastEvent,
        depth: 0,
        exact: false,
        why: null,
        child: null,
        waits: true,
      }));
    this.timeline = { ...timeline, spans: [...timeline.spans, ...waits] };
    this.until = until;
    this.draw();
  }

  draw(keep = false) {
    if (!this.timeline) return;
    const { timeline, until } = this;
    const { box } = this.list;
    const centre = keep && box.scrollWidth ? (box.scrollLeft + box.clientWidth / 2) / box.scrollWidth : 0;
    const moments = timeline.spans.flatMap((span) => [
      span.start,
      span.end ?? until,
      ...span.attempts.map((attempt) => attempt.end ?? until),
    ]);
    this.scale = new Scale(timeline.began, until, moments, this.shortened);
    this.labels = box.clientWidth < 560 ? 116 : 230;
    this.width = Math.max(80, box.clientWidth - this.labels - 14) * this.zoom;
    this.list.rows.style.setProperty("width", `${this.labels + this.width + 14}px`);
    this.axis.style.setProperty("width", `${this.labels + this.width + 14}px`);
    const rows = [
      ...timeline.spans.map((span) => ({ key: span, at: span.start, n: span.first < 0 ? Infinity : span.first, span })),
      ...timeline.marks.map((mark) => ({ key: mark, at: mark.at, n: mark.n, mark })),
    ];
    rows.sort((a, b) => a.at - b.at || a.n - b.n);
    this.list.set(
      rows,
      (row, before) =>
        row.key === before.key ||
        (row.span && before.span && row.span.id === before.span.id && row.span.first === before.span.first),
    );
    fill(this.said, `${plural(timeline.spans.length, "row")} over ${duration(until - timeline.began)}`);
    if (keep) box.scrollLeft = centre * box.scrollWidth - box.clientWidth / 2;
  }

  x(at) {
    return this.labels + this.scale.place(at) * this.width;
  }

  bar(from, to, className, title) {
    const [left, right] = [this.x(from), this.x(to)];
    return h("span", {
      class: `bar ${className}`,
      title,
      style: { left: `${left}px`, width: `${Math.max(3, right - left)}px` },
    });
  }

  row({ span, mark }) {
    if (mark)
      return [
        this.label(mark.kind, oneLine(mark.name), 0),
        h("span", { class: `tick ${mark.kind}`, title: moment(mark.at), style: { left: `${this.x(mark.at)}px` } }),
      ];
    const end = span.end ?? this.until;
    const took = `${span.end === null ? "so far " : ""}${duration(end - span.start)}`;
    const name =
      span.kind === "timer" && !span.waits ? `timer, ${duration(end - span.start)}` : oneLine(span.name ?? "");
    const parts = [];
    if (span.kind === "step" && span.attempts.length > 1) parts.push(this.bar(span.start, end, "between", ""));
    const bars =
      span.kind === "step" && span.attempts.length > 1
        ? span.attempts
        : [{ start: span.start, end: span.end, status: span.status, why: span.why }];
    for (const each of bars)
      parts.push(
        this.bar(
          each.start,
          each.end ?? this.until,
          `${span.kind} ${each.status}${span.loose && !span.exact && each === bars[0] ? " loose" : ""}`,
          `${took}${each.why ? `: ${oneLine(each.why)}` : ""}`,
        ),
      );
    const after = h(
      "span",
      { class: "took", style: { left: `${Math.min(this.x(end) + 6, this.labels + this.width - 60)}px` } },
      took,
      span.attempts.length > 1 ? ` · ${span.attempts.length} attempts` : "",
    );
    return [
      this.label(span.kind, name, span.depth, span.status),
      ...parts,
      this.x(end) + 70 < this.labels + this.width ? after : null,
    ];
  }

  label(kind, name, depth, status = "") {
    return h(
      "span",
      { class: "label", style: { width: `${this.labels}px`, "padding-left": `${8 + Math.min(depth, 6) * 12}px` } },
      h("span", { class: `dot ${kind} ${status}` }),
      h("span", { class: "name" }, name),
      h("span", { class: "kind" }, KIND_NAMES[kind] ?? kind),
    );
  }

  drawAxis() {
    if (!this.scale) return;
    const { scale, labels, width, until } = this;
    const { box } = this.list;
    const marks = [];
    const place = (at, text) =>
      marks.push(h("span", { class: "grid", style: { left: `${this.x(at)}px` } }, h("span", {}, text)));
    if (this.shortened) {
      let last = -Infinity;
      for (const at of scale.points)
        if (this.x(at) - last > 84) [last] = [this.x(at), place(at, duration(at - scale.from))];
    } else {
      const per = (until - scale.from) / width || 1;
      const step = STEPS.find((each) => each / per >= 90) ?? STEPS.at(-1);
      const first = Math.max(0, Math.floor(((box.scrollLeft - labels) * per) / step)) * step;
      for (let ms = first; ms <= until - scale.from && (ms - first) / per < box.clientWidth + 400; ms += step)
        place(scale.from + ms, duration(ms));
    }
    fill(this.axis, h("span", { class: "label corner", style: { width: `${labels}px` } }, "since the start"), marks);
  }
}

function legend() {
  const each = (kind, text) => h("span", {}, h("span", { class: `dot ${kind}` }), ` ${text}`);
  return h(
    "div",
    { class: "legend", "aria-hidden": "true" },
    each("step completed", "step"),
    each("step failed", "failed"),
    each("signal", "wait"),
    each("timer", "timer"),
    each("child", "child"),
    each("update", "update"),
  );
}
