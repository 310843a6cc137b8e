// One run: its head, what holds it up, and its tabs.
import { timelineOf } from "../reader/index.js";
import { AboutView } from "./about.js";
import { Actions } from "./acting.js";
import { BudgetView } from "./budget.js";
import { Chart } from "./chart.js";
import { CompareView } from "./compared.js";
import { button, count, dollars, duration, fill, h, moment, oneLine, plural, sentence } from "./dom.js";
import { EventsView, META } from "./recorded.js";
import { tree } from "./tree.js";
import { chip, described, heldUp, waitsOf } from "./words.js";

const TABS = [
  ["timeline", "Timeline"],
  ["events", "Events"],
  ["budget", "Budget"],
  ["about", "About"],
  ["compare", "Compare"],
];

export class RunView {
  constructor({ records, go, changed, historyOf }) {
    Object.assign(this, { records, go });
    this.tab = "timeline";
    this.title = h("h2", { tabindex: "-1" });
    this.facts = h("div", { class: "facts" });
    this.verified = h("p", { class: "verified" });
    this.banner = h("div", { class: "banner", role: "status", hidden: true });
    this.actions = new Actions(changed);
    this.chart = new Chart((span) => this.showSpan(span));
    this.events = new EventsView((event) => this.showEvent(event));
    this.budget = new BudgetView();
    this.compare = new CompareView(
      () =>
        this.records()
          .map((record) => record.id)
          .filter((id) => id !== this.record?.id),
      historyOf,
    );
    this.about = new AboutView(records, go);
    this.detail = h("aside", { class: "detail", "aria-label": "Details", tabindex: "-1", hidden: true });
    this.tabs = h(
      "div",
      { class: "tabs", role: "tablist", "aria-label": "Views of the run", onkeydown: (event) => this.turn(event) },
      TABS.map(([name, text]) =>
        h(
          "button",
          {
            type: "button",
            role: "tab",
            id: `tab-${name}`,
            "aria-controls": "panel",
            onclick: () => this.choose(name),
          },
          text,
        ),
      ),
    );
    this.panel = h("div", { id: "panel", role: "tabpanel", class: "panel" });
    this.element = h(
      "article",
      { class: "run", hidden: true },
      h(
        "header",
        { class: "run-head" },
        button("All runs", () => this.go(null), { class: "back" }),
        this.title,
        this.facts,
        this.verified,
        this.banner,
        this.actions.element,
      ),
      this.tabs,
      h("div", { class: "body" }, this.panel, this.detail),
    );
    this.trouble = h("div", { class: "state", role: "alert", hidden: true });
  }

  turn(event) {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const at = TABS.findIndex(([name]) => name === this.tab);
    this.choose(TABS[(at + move + TABS.length) % TABS.length][0]);
    this.tabs.querySelector('[aria-selected="true"]').focus();
  }

  choose(name) {
    if (this.tab !== name) this.closeDetail();
    this.tab = name;
    this.draw();
  }

  /** Shows a run that was read: {record, history, requests}. */
  show(source, found) {
    const other = this.record?.id !== found.record.id;
    Object.assign(this, { source, record: found.record, history: found.history, requests: found.requests });
    this.timeline = timelineOf(found.history);
    this.trouble.hidden = true;
    this.element.hidden = false;
    if (other) {
      this.closeDetail();
      this.compare.theirs = this.compare.result = null;
      this.events.find.value = "";
    }
    this.draw();
  }

  /** A run that can't be shown: what is wrong with it, and what to do. */
  fail(id, error) {
    this.element.hidden = true;
    this.record = null;
    this.trouble.hidden = false;
    const titles = {
      sealed: "This run is sealed",
      damaged: "This history does not hold",
      newer: "A newer alkaline wrote this",
      missing: "Something of this run is missing",
      forbidden: "This token does not open it",
    };
    fill(
      this.trouble,
      button("All runs", () => this.go(null), { class: "back" }),
      h("h2", {}, titles[error.code] ?? "This run can't be shown"),
      h("p", {}, h("code", {}, oneLine(id))),
      h("p", {}, sentence(error.message)),
    );
  }

  get until() {
    return this.timeline.ended || !this.source.live ? this.timeline.last : Math.max(this.timeline.last, Date.now());
  }

  draw() {
    const { record, history, timeline } = this;
    for (const tab of this.tabs.children) {
      const on = tab.id === `tab-${this.tab}`;
      tab.setAttribute("aria-selected", on ? "true" : "false");
      tab.tabIndex = on ? 0 : -1;
    }
    this.panel.setAttribute("aria-labelledby", `tab-${this.tab}`);
    fill(this.title, oneLine(record.id));
    this.drawFacts();
    fill(
      this.verified,
      h("span", { class: "seal", "aria-hidden": "true" }),
      `Chain of ${plural(history.length, "commit")} verified here, head ${history.head.slice(0, 12)}`,
    );
    const why = heldUp(record, this.source.live ? Date.now() : record.updated_at); // a copy says nothing of today
    this.banner.hidden = !why && record.status !== "failed";
    const failure = record.failure;
    const said =
      failure instanceof Map
        ? `${failure.get("type")}: ${failure.get("message")}`
        : failure
          ? `${failure.type}: ${failure.message}`
          : "";
    this.banner.className = `banner ${record.status === "failed" && !why ? "bad" : "warn"}`;
    fill(this.banner, h("strong", {}, why ? "Held up. " : "Failed. "), oneLine(why || said));
    this.actions.show(this.source, record, history);
    const views = {
      timeline: this.chart.element,
      events: this.events.element,
      budget: this.budget.element,
      about: this.about.element,
      compare: this.compare.element,
    };
    if (this.panel.firstElementChild !== views[this.tab]) fill(this.panel, views[this.tab]);
    const drawing = {
      timeline: () => this.chart.show(timeline, this.until, timeline.ended ? [] : waitsOf(record)),
      events: () => this.events.show(history),
      budget: () => this.budget.show(timeline, this.until),
      about: () => this.about.show(this),
      compare: () => this.compare.show(history),
    };
    drawing[this.tab]();
  }

  /** Time passes for a run that goes on, also while nothing happens in it. */
  age() {
    if (!this.record || this.element.hidden || this.timeline.ended || !this.source.live) return;
    this.drawFacts();
    if (this.tab === "timeline") this.chart.show(this.timeline, this.until, waitsOf(this.record));
  }

  /** What was tried more than once. */
  again() {
    const tried = this.timeline.spans.filter((span) => span.attempts.length > 1).length;
    return tried ? h("span", { class: "warn-text" }, `${plural(tried, "step")} tried again`) : null;
  }

  drawFacts() {
    const { record, timeline } = this;
    const money = timeline.spent.micro ? ` · ${dollars(timeline.spent.micro)}` : "";
    fill(
      this.facts,
      chip(record.status),
      h("span", {}, `${oneLine(record.workflow)} v${record.version}`),
      h("span", {}, `began ${moment(timeline.began)}`),
      h(
        "span",
        {},
        `${timeline.ended ? "took" : "so far"} ${duration((timeline.ended ? timeline.last : this.until) - timeline.began)}`,
      ),
      timeline.spent.tokens || money ? h("span", {}, `${count(timeline.spent.tokens)} tokens${money}`) : null,
      this.again(),
    );
  }

  openDetail(title, facts, ...values) {
    this.detail.hidden = false;
    fill(
      this.detail,
      h(
        "header",
        {},
        h("h3", {}, title),
        button("Close", () => this.closeDetail(), { class: "small" }),
      ),
      h(
        "dl",
        {},
        facts.filter(Boolean).map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]),
      ),
      ...values,
    );
  }

  closeDetail() {
    this.detail.hidden = true;
    fill(this.detail);
  }

  showEvent(event) {
    const items = Object.entries(event).filter(([name]) => !META.has(name));
    const [, title] = described(event);
    const simple = items
      .filter(([, value]) => value === null || ["string", "number", "boolean", "bigint"].includes(typeof value))
      .filter(([name, value]) => !["value", "payload", "input", "data"].includes(name) && String(value).length < 200);
    const trees = items.filter(([name]) => !simple.some(([other]) => other === name));
    this.openDetail(
      title,
      [
        ["event", `${event.n}, a ${event.kind} in commit ${event.commit}`],
        ["at", `${moment(event.at)}.${String(event.at % 1000).padStart(3, "0")}`],
        ...simple.map(([name, value]) => [
          name.replace("_", " "),
          name === "retry_at" ? moment(value) : oneLine(String(value)),
        ]),
      ],
      trees.map(([name, value]) => tree(name, value)),
      this.forkHere(event),
    );
  }

  forkHere(event) {
    if (!this.actions.mayAct || !this.source.verbs.has("fork")) return null;
    return button("Fork from here…", () => this.actions.fork(event.commit + 1));
  }

  showSpan(span) {
    const { history, timeline } = this;
    const events = history.events
      .filter((event) => span.id && event.id === span.id)
      .concat(span.id ? [] : [history.events[span.first]]);
    const last = events.at(-1) ?? history.events[span.last];
    this.openDetail(
      oneLine(span.name ?? span.kind),
      [
        ["what", `${span.kind}${span.id ? `, command ${span.id}` : ""}`],
        ["how", span.status],
        [
          "from",
          `${duration(span.start - timeline.began)}${span.exact ? "" : span.loose ? " at the earliest" : ", as the history lets it be told"}`,
        ],
        ["took", span.end === null ? "goes on" : duration(span.end - span.start)],
        span.why && ["why", oneLine(span.why)],
        span.child && ["child", this.about.link(span.child)],
        span.charges.length > 0 && [
          "cost",
          span.charges
            .map((each) => `${count(each.tokens)} tokens${each.micro ? `, ${dollars(each.micro)}` : ""}`)
            .join("; "),
        ],
      ],
      span.attempts.length > 1 ? attemptsOf(span, timeline) : null,
      ...["value", "failure", "payload"]
        .filter((name) => last?.[name] !== undefined)
        .map((name) => tree(name, last[name])),
      last ? this.forkHere(last) : null,
    );
  }
}

function attemptsOf(span, timeline) {
  return h(
    "section",
    { class: "value" },
    h("h4", {}, "Attempts"),
    h(
      "ol",
      { class: "attempts" },
      span.attempts.map((attempt) =>
        h(
          "li",
          { class: attempt.status },
          `${duration(attempt.start - timeline.began)}, ${attempt.status}`,
          attempt.why ? h("div", { class: "quiet" }, oneLine(attempt.why)) : null,
        ),
      ),
    ),
  );
}
