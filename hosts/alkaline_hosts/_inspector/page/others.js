// What a store holds beside its runs: schedules, boards, budgets and limits.
import { ago, button, count, duration, fill, h, moment, oneLine, plural, preview } from "./dom.js";
import { tree } from "./tree.js";

const MOST = 200;
const text = (value) =>
  value === null || value === undefined ? "" : typeof value === "string" ? oneLine(value) : preview(value, 60);
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

/** The states of a task, in the order of its life. */
const STATES = [
  "triage",
  "todo",
  "scheduled",
  "ready",
  "running",
  "blocked",
  "review",
  "done",
  "failed",
  "cancelled",
  "archived",
];

/** When something is due, and in how long. */
const due = (value) => (value === null || value === undefined ? "never" : `${moment(value)}, ${ago(value)}`);

/** One task: what it is, who has it, and the whole of it once it is opened. */
function card([id, task]) {
  const whole = h("div", { class: "whole", hidden: true });
  const open = button(
    text(task.get("title")) || oneLine(id),
    () => {
      whole.hidden = !whole.hidden;
      open.setAttribute("aria-expanded", whole.hidden ? "false" : "true");
      fill(whole, whole.hidden ? null : tree(oneLine(id), task, 4));
    },
    { class: "link", "aria-expanded": "false" },
  );
  const claim = task.get("claim");
  const [who, priority] = [task.get("assignee") ?? task.get("workflow"), Number(task.get("priority") ?? 0)];
  const block = task.get("block");
  return h(
    "li",
    { class: "task" },
    open,
    h("span", { class: "quiet mono" }, oneLine(id)),
    priority ? h("span", { class: "quiet" }, `priority ${priority}`) : null,
    claim ? h("span", {}, `claimed by ${text(claim.get("worker"))}`) : who ? h("span", { class: "quiet" }, `for ${text(who)}`) : null,
    block ? h("span", { class: "warn-text" }, text(block.get("reason")) || text(block.get("kind"))) : null,
    whole,
  );
}

/** A board as its columns; those without a task are left out. */
function boardOf([name, board]) {
  const title = `Board ${oneLine(name)}: ${plural(board.tasks.size, "task")}`;
  const states = [...new Set([...STATES, ...[...board.tasks.values()].map((task) => task.get("state"))])];
  const columns = states
    .map((state) => [state, [...board.tasks].filter(([, task]) => task.get("state") === state)])
    .filter(([, tasks]) => tasks.length);
  return h(
    "section",
    {},
    h("h3", {}, title),
    columns.length
      ? h(
          "div",
          { class: "lanes", tabindex: "0", role: "region", "aria-label": title },
          columns.map(([state, tasks]) =>
            h(
              "div",
              { class: "lane" },
              h("h4", {}, oneLine(String(state)), h("span", { class: "quiet" }, ` ${count(tasks.length)}`)),
              h("ul", {}, tasks.slice(0, MOST).map(card)),
              tasks.length > MOST ? h("p", { class: "quiet" }, `and ${count(tasks.length - MOST)} more`) : null,
            ),
          ),
        )
      : h("p", { class: "quiet" }, "No task is on this board."),
  );
}

/** A part that has nothing yet, and how it gets something. */
const none = (title, words) => h("section", {}, h("h3", {}, title), h("p", { class: "quiet" }, words));

/** All of it, as an element; `again` looks once more where it could not be read. */
export function othersView(others, back, again) {
  const head = h(
    "header",
    {},
    button("All runs", back, { class: "back" }),
    h("h2", { tabindex: "-1" }, "Beside the runs"),
  );
  if (others.error)
    return h(
      "article",
      { class: "others" },
      head,
      h("p", { class: "trouble", role: "alert" }, `It can't be shown: ${oneLine(others.error.message)}`),
      button("Look again", again, { class: "primary fit" }),
    );
  const schedules = [
    ["workflow", (v) => text(v.get("workflow"))],
    ["when", (v) => whenOf(v.get("when"))],
    ["status", (v) => text(v.get("status"))],
    ["next tick", (v) => (v.get("status") === "paused" ? "paused" : due(v.get("due")))],
    ["started", (v) => count(v.get("started") ?? 0)],
    ["skipped", (v) => count(v.get("skipped") ?? 0)],
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
    head,
    others.schedules.size
      ? table("Schedules", [...others.schedules], schedules)
      : none("Schedules", "None is here: alkaline schedules create makes one, or Triggers in a program."),
    others.boards.size
      ? [...others.boards].map(boardOf)
      : none("Boards", "None is here: a board comes into being with its first task."),
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
