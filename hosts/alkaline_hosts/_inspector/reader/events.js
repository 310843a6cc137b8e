// Section 3 of SPEC.md: the kinds of events, and the names of their items.

/** What each kind, by its number, holds behind it. */
export const KINDS = [
  ["Started", "header", "input"],
  ["StepCompleted", "id", "name", "args", "value"],
  ["StepFailed", "id", "name", "args", "failure"],
  ["AttemptFailed", "id", "name", "args", "attempt", "failure", "retry_at"],
  ["StepIntended", "id", "name", "args"],
  ["StepCharged", "id", "tokens", "micro_usd", "totals"],
  ["TimerFired", "id"],
  ["SignalReceived", "entry", "name", "payload"],
  ["Drawn", "what", "value"],
  ["Spent", "tokens", "micro_usd", "label", "refused", "totals"],
  ["ChildStarted", "id", "workflow", "args", "child"],
  ["ChildFinished", "id", "outcome", "value"],
  ["CancelRequested", "reason"],
  ["Paused"],
  ["Resumed"],
  ["UpdateReceived", "entry", "name", "payload"],
  ["UpdateReplied", "entry", "ok", "value"],
  ["Emitted", "topic", "data"],
  ["Completed", "value"],
  ["Failed", "failure"],
  ["Cancelled", "reason"],
  ["ContinuedAsNew", "input"],
  ["Retried", "void", "tokens", "micro_usd"],
  ["ToppedUp", "tokens", "micro_usd", "ms"],
];

/** Kinds behind which a history has nothing, but for a Retried. */
export const ENDINGS = new Set(["Completed", "Failed", "Cancelled", "ContinuedAsNew"]);

/** Kinds that wake the handler. */
export const WAKING = new Set([
  "StepCompleted",
  "StepFailed",
  "AttemptFailed",
  "TimerFired",
  "SignalReceived",
  "ChildStarted",
  "ChildFinished",
  "CancelRequested",
  "UpdateReceived",
]);
