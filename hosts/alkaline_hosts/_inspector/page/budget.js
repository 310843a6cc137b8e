// What a run spent, charge by charge, against what it may.
import { count, dollars, duration, fill, h, oneLine, svg } from "./dom.js";
import { VirtualList } from "./virtual.js";

function meter(name, spent, limit, shown) {
  const share = limit ? Math.min(1, spent / limit) : 0;
  const full = limit !== null && spent >= limit;
  return h(
    "div",
    { class: "meter" },
    h("span", { class: "big" }, shown(spent)),
    h("span", { class: "quiet" }, limit === null ? `${name}, no limit` : `of ${shown(limit)} ${name}`),
    limit === null
      ? null
      : h(
          "div",
          {
            class: "track",
            role: "meter",
            "aria-label": `${name} spent`,
            "aria-valuemin": 0,
            "aria-valuemax": limit,
            "aria-valuenow": Math.min(spent, limit),
          },
          h("div", { class: full ? "full" : "part", style: { width: `${share * 100}%` } }),
        ),
  );
}

/** Steps that rise where something was charged. */
function curve(timeline, value, limit, until) {
  const [width, height] = [600, 90];
  const most = Math.max(limit ?? 0, ...timeline.charges.map((each) => value(each.total)), 1);
  const x = (at) => ((at - timeline.began) / Math.max(1, until - timeline.began)) * width;
  const y = (amount) => height - 4 - (amount / most) * (height - 12);
  let path = `M0 ${y(0)}`;
  for (const each of timeline.charges) path += `H${x(each.at).toFixed(1)}V${y(value(each.total)).toFixed(1)}`;
  path += `H${width}`;
  return svg(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "curve", "aria-hidden": "true" },
    svg("path", { d: `${path}V${y(0)}H0Z`, class: "area" }),
    svg("path", { d: path, class: "line" }),
    limit ? svg("path", { d: `M0 ${y(limit)}H${width}`, class: "limit" }) : null,
  );
}

export class BudgetView {
  constructor() {
    this.list = new VirtualList({
      label: "Charges",
      height: 30,
      className: "charges",
      empty: "This run has been charged for nothing.",
      render: (each) => [
        h("span", { class: "num" }, duration(each.at - this.timeline.began)),
        h("span", { class: "num" }, count(each.tokens)),
        h("span", { class: "num" }, dollars(each.micro)),
        h("span", { class: "grow" }, each.refused ? h("span", { class: "bad" }, "refused ") : null, oneLine(each.what)),
        h("span", { class: "num quiet" }, `${count(each.total.tokens)} in all`),
      ],
    });
    this.summary = h("div", { class: "meters" });
    this.element = h(
      "div",
      { class: "budget" },
      this.summary,
      h(
        "div",
        { class: "columns", "aria-hidden": "true" },
        h("span", {}, "after"),
        h("span", {}, "tokens"),
        h("span", {}, "usd"),
        h("span", { class: "grow" }, "for"),
        h("span", {}, ""),
      ),
      this.list.element,
    );
  }

  show(timeline, until) {
    this.timeline = timeline;
    const limits = timeline.limits ?? { tokens: null, micro: null };
    const money = timeline.spent.micro > 0 || limits.micro !== null;
    fill(
      this.summary,
      h(
        "div",
        {},
        meter("tokens", timeline.spent.tokens, limits.tokens, count),
        curve(timeline, (total) => total.tokens, limits.tokens, until),
      ),
      money
        ? h(
            "div",
            {},
            meter("usd", timeline.spent.micro, limits.micro, dollars),
            curve(timeline, (total) => total.micro, limits.micro, until),
          )
        : null,
    );
    this.list.set(timeline.charges, (a, b) => a.n === b.n);
  }
}
