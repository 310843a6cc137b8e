// What a store holds beside its runs: schedules, boards, budgets and limits.
import { button, count, duration, fill, h, moment, oneLine, plural, preview } from "./dom.js";
import { tree } from "./tree.js";

const MOST = 200;
const text = (value) =>
  value === null || value === undefined ? "" : typeof value === "string" ? oneLine(value) : preview(value, 60);
const at = (value) => (value === null || value === undefined ? "" : moment(value));
const sums = (value) =>
  Array.isArray(value)
    ? `${value[0] === null ? "–" : count(value[0])} tokens${value[1] ? `, ${Number(value[1]) / 1e6} usd` : ""}`
    : "";

/** ["every", length, anchor] or ["cron", expression, zone] in words. */
function whenOf(when) {
  if (!Array.isArray(when)) return "";
  return when[0] === "every" ? `every ${duration(Number(when[1]))}` : oneLine(when.map(text).join(" "));
}

/** How many there are. */
export const howMany = (others) =>
  others.schedules.size + others.boards.size + others.budgets.size + others.limits.size;

/** A table of maps; a row opens the whole of what stands there. */
function table(title, entries, columns) {
  if (!entries.length) return null;
  const body = h("tbody");
  entries.slice(0, MOST).forEach(([name, value]) => {
    const whole = h("tr", { hidden: true }, h("td", { colspan: columns.length + 1 }));
    const open = button(
      oneLine(name),
      () => {
        whole.hidden = !whole.hidden;
        open.setAttribute("aria-expanded", whole.hidden ? "false" : "true");
        fill(whole.firstChild, whole.hidden ? null : tree(oneLine(name), value, 4));
      },
      { class: "link", "aria-expanded": "false" },
    );
    body.append(
      h(
        "tr",
        {},
        h("th", { scope: "row" }, open),
        columns.map(([, of]) => h("td", {}, of(value))),
      ),
      whole,
    );
  });
  return h(
    "section",
    {},
    h("h3", {}, title),
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": title },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            h("th", { scope: "col" }, "name"),
            columns.map(([label]) => h("th", { scope: "col" }, label)),
          ),
        ),
        body,
      ),
    ),
    entries.length > MOST ? h("p", { class: "quiet" }, `and ${count(entries.length - MOST)} more`) : null,
  );
}

/** All of it, as an element. */
export function othersView(others, back) {
  const schedules = [
    ["workflow", (v) => text(v.get("workflow"))],
    ["when", (v) => whenOf(v.get("when"))],
    ["status", (v) => text(v.get("status"))],
    ["next", (v) => at(v.get("due"))],
    ["started", (v) => count(v.get("started") ?? 0)],
    ["skipped", (v) => count(v.get("skipped") ?? 0)],
  ];
  const tasks = [
    ["title", (v) => text(v.get("title"))],
    ["state", (v) => text(v.get("state"))],
    ["for", (v) => text(v.get("assignee") ?? v.get("workflow"))],
    ["claimed by", (v) => text(v.get("claim")?.get?.("worker"))],
    ["priority", (v) => count(v.get("priority") ?? 0)],
    ["written", (v) => at(v.get("updated_at"))],
  ];
  const budgets = [
    ["limit", (v) => sums(v.get("limits"))],
    ["spent", (v) => sums(v.get("spent"))],
    ["runs that wait", (v) => count(v.get("waiting")?.length ?? 0)],
  ];
  const limits = [
    ["at a time", (v) => text(v.get("concurrency"))],
    ["held", (v) => count(v.get("holders")?.length ?? 0)],
    ["waiting", (v) => count(v.get("waiting")?.length ?? 0)],
  ];
  return h(
    "article",
    { class: "others" },
    h("header", {}, button("All runs", back, { class: "back" }), h("h2", { tabindex: "-1" }, "Beside the runs")),
    table("Schedules", [...others.schedules], schedules),
    [...others.boards].map(([name, board]) =>
      table(`Board ${oneLine(name)}: ${plural(board.tasks.size, "task")}`, [...board.tasks], tasks),
    ),
    table("Budgets", [...others.budgets], budgets),
    table("Limits", [...others.limits], limits),
    others.unreadable.length
      ? h(
          "p",
          { class: "trouble" },
          `Left out, since it can't be read: ${oneLine(others.unreadable.slice(0, 5).join("; "))}`,
        )
      : null,
  );
}
