// What can be asked of a run, where the source takes it: answers to what it waits for, and the verbs of operators.
import { ago, announce, button, fill, h, moment, oneLine } from "./dom.js";
import { waitOf, waitsOf } from "./words.js";

const OVER = ["completed", "failed", "cancelled"];

/** A dialog with a form; `send(fields)` does what it asks for, and what it throws is shown in it. */
function dialog(title, lead, fields, action, send) {
  const trouble = h("p", { class: "trouble", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: "primary" }, action);
  const box = h("dialog", { "aria-label": title });
  const close = () => {
    box.close();
    box.remove();
  };
  const form = h(
    "form",
    {
      method: "dialog",
      onsubmit: async (event) => {
        event.preventDefault();
        go.disabled = true;
        try {
          await send(Object.fromEntries(new FormData(form)));
          close();
          announce(`${title}: done`);
        } catch (error) {
          trouble.hidden = false;
          trouble.textContent = error.message;
          go.disabled = false;
        }
      },
    },
    h("h2", {}, title),
    h("p", { class: "quiet" }, lead),
    fields,
    trouble,
    h("footer", {}, button("Not now", close), go),
  );
  box.append(form);
  box.addEventListener("cancel", close);
  document.body.append(box);
  box.showModal();
}

const field = (name, label, properties = {}, tag = "input") =>
  h(
    "label",
    { class: "field" },
    h("span", {}, label),
    h(tag, { name, autocomplete: "off", spellcheck: "false", ...properties }),
  );

function jsonOf(text, what) {
  if (!text.trim()) return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error(`${what} is not JSON: ${error.message}. A text has quotes around it: "yes"`);
  }
}

/** A run that has failed since its budget was used up: it is topped up, and tried again then. */
const outOfBudget = ({ status, failure }) => status === "failed" && failure?.code === "ERR_BUDGET_EXCEEDED";

/** The buttons for a run. `changed` is called when something was asked, with the id of a run that was made. */
export class Actions {
  constructor(changed) {
    this.changed = changed;
    this.element = h("div", { class: "actions" });
  }

  show(source, record, history) {
    Object.assign(this, { source, record, history });
    const said = JSON.stringify([
      record.id,
      record.status,
      record.waiting,
      record.wake_at,
      record.stuck,
      source.title,
      source.readOnly,
    ]);
    if (said === this.said) return; // a button that is drawn anew while it is pressed is not pressed
    this.said = said;
    fill(this.element, this.waits(), this.verbs());
  }

  get mayAct() {
    return this.source.kind === "server" && !this.source.readOnly;
  }

  async ask(verb, more) {
    const made = await this.source.act(verb, this.record.id, more);
    this.changed(made?.id !== this.record.id ? made?.id : undefined);
  }

  waits() {
    const { record } = this;
    if (OVER.includes(record.status) || !record.waiting.length) return null;
    const waits = waitsOf(record);
    const until = record.wake_at
      ? h("span", { class: "quiet" }, `until ${moment(record.wake_at)}, ${ago(record.wake_at)}`)
      : null;
    return h(
      "ul",
      { class: "waits", "aria-label": "What the run waits for" },
      waits.slice(0, 20).map((text) => {
        const wait = waitOf(text);
        const answer =
          wait.kind === "signal"
            ? this.mayAct
              ? button(`Send ${oneLine(wait.name)}…`, () => this.signal(wait.name), { class: "primary small" })
              : this.command("signal", this.record.id, wait.name, "true")
            : null;
        return h("li", {}, h("span", {}, "waits for ", h("strong", {}, wait.text)), until, answer);
      }),
      waits.length > 20 ? h("li", { class: "quiet" }, `and ${waits.length - 20} more`) : null,
    );
  }

  /** What does the same in a shell, where the page may not. */
  command(verb, ...words) {
    const quoted = [this.source.title, ...words].map((word) =>
      /^[\w./:@~+=-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`,
    );
    return h("code", { class: "command" }, oneLine(`alkaline ${verb} ${quoted.join(" ")}`));
  }

  verbs() {
    if (this.source.kind !== "server") return null;
    if (this.source.readOnly)
      return OVER.includes(this.record.status)
        ? null
        : h(
            "p",
            { class: "quiet small" },
            "Looking only. Started with --write, this page can answer, pause and cancel as well.",
          );
    const { record } = this;
    const has = (verb) => this.source.verbs.has(verb);
    const over = OVER.includes(record.status);
    const buttons = [
      !over && has("signals") && button("Signal…", () => this.signal("")),
      !over && has("updates") && button("Update…", () => this.update()),
      !over && record.status !== "paused" && has("pause") && button("Pause", () => this.now("pause")),
      !over &&
        (record.status === "paused" || record.stuck || record.status === "suspended") &&
        has("resume") &&
        button("Resume", () => this.now("resume")),
      record.status === "failed" && has("retry") && button("Try again", () => this.now("retry"), { class: "primary" }),
      (!over || outOfBudget(record)) && this.topUpVerb && button("Top up…", () => this.topUp()),
      has("fork") && button("Fork…", () => this.fork(this.history.length)),
      !over && has("cancel") && button("Cancel…", () => this.cancel(), { class: "danger" }),
    ];
    this.trouble = h("p", { class: "trouble", role: "alert", hidden: true });
    return [
      h("div", { class: "verbs", role: "group", "aria-label": "Operate this run" }, buttons.filter(Boolean)),
      this.trouble,
    ];
  }

  get topUpVerb() {
    return ["top-up", "top_up", "topup"].find((verb) => this.source.verbs.has(verb));
  }

  async now(verb) {
    try {
      await this.ask(verb);
      announce(`${verb}: asked`);
    } catch (error) {
      this.trouble.hidden = false;
      this.trouble.textContent = error.message;
    }
  }

  signal(name) {
    dialog(
      `Send a signal to ${this.record.id}`,
      "It is durable once it is sent; the run takes it when it goes on.",
      [
        field("name", "Name", { value: name, required: true }),
        field("payload", "Payload, JSON; empty for null", { rows: 4, autofocus: Boolean(name) }, "textarea"),
      ],
      "Send",
      ({ name: to, payload }) => this.ask("signals", { name: to, body: jsonOf(payload, "The payload") }),
    );
  }

  update() {
    dialog(
      `Update ${this.record.id}`,
      "Its handler answers; a run that nobody drives does not answer now.",
      [
        field("name", "Name", { required: true }),
        field("payload", "Payload, JSON; empty for null", { rows: 4 }, "textarea"),
      ],
      "Send",
      ({ name, payload }) => this.ask("updates", { name, body: jsonOf(payload, "The payload") }),
    );
  }

  cancel() {
    dialog(
      `Cancel ${this.record.id}`,
      "It cleans up, and ends as cancelled. This can't be taken back.",
      [field("reason", "Reason, kept in its history")],
      "Cancel the run",
      ({ reason }) => this.ask("cancel", { query: { reason } }),
    );
  }

  topUp() {
    dialog(
      `Top up ${this.record.id}`,
      "Adds to what the run may spend.",
      [
        field("tokens", "Tokens", { type: "number", min: 0, step: 1 }),
        field("usd", "USD", { type: "number", min: 0, step: "any" }),
      ],
      "Top up",
      ({ tokens, usd }) =>
        this.ask(this.topUpVerb, {
          body: { ...(tokens ? { tokens: Number(tokens) } : {}), ...(usd ? { usd: Number(usd) } : {}) },
        }),
    );
  }

  fork(at) {
    dialog(
      `Fork ${this.record.id}`,
      "A new run with the beginning of this one's history. It is paused until it is resumed.",
      [
        field("at", `Commits that it shares, 1 to ${this.history.length}`, {
          type: "number",
          min: 1,
          max: this.history.length,
          value: String(at),
          required: true,
        }),
        field(
          "edit",
          'What is to be different, JSON by command id, such as {"3": "another result"}; or nothing',
          { rows: 3 },
          "textarea",
        ),
      ],
      "Fork",
      ({ at: shared, edit }) =>
        this.ask("fork", { query: { at: shared }, body: jsonOf(edit, "What is to be different") ?? undefined }),
    );
  }
}
