// Events and records in words and colours.
import { h, oneLine, preview } from "./dom.js";

const failed = (failure) =>
  failure instanceof Map ? `${failure.get("type")}: ${failure.get("message")}` : preview(failure);

/** What an event says: [tone, title, the rest], each on one line and fit to be seen. */
export function described(event) {
  const [tone, title, rest] = (SAYINGS[event.kind] ?? ((e) => ["plain", e.kind, ""]))(event);
  return [tone, oneLine(title), oneLine(rest.length > 400 ? `${rest.slice(0, 400)}…` : rest)];
}

const amounts = (e) => [`${e.tokens} tokens`, `${Number(e.micro_usd) / 1e6} usd`, `${Number(e.ms) / 1000} s`].join(", ");

const SAYINGS = {
  Started: (e) => ["mark", `started ${e.header.get("workflow")}`, preview(e.input)],
  StepCompleted: (e) => ["good", `${e.name}`, preview(e.value)],
  StepFailed: (e) => ["bad", `${e.name} failed`, failed(e.failure)],
  AttemptFailed: (e) => ["warn", `${e.name}, attempt ${e.attempt} failed`, failed(e.failure)],
  StepIntended: (e) => ["plain", `${e.name} is to start, once`, ""],
  StepCharged: (e) => ["cost", `step ${e.id} cost ${e.tokens} tokens`, `${Number(e.micro_usd) / 1e6} usd`],
  TimerFired: (e) => ["time", `timer ${e.id} fired`, ""],
  SignalReceived: (e) => ["wait", `signal ${e.name}`, preview(e.payload)],
  Drawn: (e) => ["plain", `drew ${e.what}`, preview(e.value)],
  Spent: (e) => [
    e.refused ? "bad" : "cost",
    `${e.refused ? "was refused" : "spent"} ${e.tokens} tokens${e.label ? `, ${preview(e.label)}` : ""}`,
    `${Number(e.micro_usd) / 1e6} usd`,
  ],
  ChildStarted: (e) => ["child", `child ${e.workflow}`, String(e.child)],
  ChildFinished: (e) => [
    e.outcome === "completed" ? "good" : "bad",
    `child of ${e.id} ${e.outcome}`,
    e.outcome === "completed" ? preview(e.value) : failed(e.value),
  ],
  CancelRequested: (e) => ["warn", "cancel requested", preview(e.reason)],
  Paused: () => ["plain", "paused", ""],
  Resumed: () => ["plain", "resumed", ""],
  UpdateReceived: (e) => ["wait", `update ${e.name}`, preview(e.payload)],
  UpdateReplied: (e) => [e.ok ? "good" : "bad", "replied to the update", e.ok ? preview(e.value) : failed(e.value)],
  Emitted: (e) => ["plain", `emitted ${e.topic}`, preview(e.data)],
  Completed: (e) => ["good", "completed", preview(e.value)],
  Failed: (e) => ["bad", "failed", failed(e.failure)],
  Cancelled: (e) => ["plain", "cancelled", preview(e.reason)],
  Retried: (e) => ["mark", "tried again", e.void?.length ? "what failed before counts no more" : ""],
  ToppedUp: (e) => ["mark", "topped up", amounts(e)],
  ContinuedAsNew: (e) => ["mark", "continued as new", preview(e.input)],
};

/** A run's status as a chip. */
export const chip = (status) =>
  h(
    "span",
    {
      class: `chip ${["running", "suspended", "completed", "failed", "paused", "cancelled"].includes(status) ? status : "unknown"}`,
    },
    status,
  );

const LATE = 5000;

/** Why nobody goes on with a run that could; "" where there is nothing to say. */
export function heldUp(record, now = Date.now()) {
  if (record.stuck) return `${record.stuck.code}: ${record.stuck.message}`;
  if (record.moved_to) return `The run was handed over: ${record.moved_to}.`;
  const over = ["completed", "failed", "cancelled"].includes(record.status);
  if (over || record.status === "paused") return "";
  if (record.status === "running" && record.lease_until && Number(record.lease_until) < now - LATE)
    return "Nobody drives it: its owner is gone. A process that knows its workflow takes it up with serve() or resume().";
  if (
    record.status === "suspended" &&
    record.wake_at !== null &&
    record.wake_at !== undefined &&
    Number(record.wake_at) < now - LATE
  )
    return "Its timer is due and nobody has woken it: no process that knows its workflow serves this store.";
  return "";
}

/** What a record says that its run waits for; a timeout goes with what it is the end of. */
export const waitsOf = (record) =>
  record.waiting.filter(
    (text) => !/^timer timeout of /.test(text) || !record.waiting.includes(text.replace("timer timeout of ", "")),
  );

/** "signal answer" and the like, in its parts. */
export function waitOf(text) {
  const found = /^(\w+)(?: (.*))?$/s.exec(text);
  return found
    ? { kind: found[1], name: found[2] ?? "", text: oneLine(text) }
    : { kind: "", name: "", text: oneLine(text) };
}
