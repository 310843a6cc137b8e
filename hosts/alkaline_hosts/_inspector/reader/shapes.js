// The shapes of what comes in from outside (SPEC.md, section 3 and "The record"): of what type each item is.
import { BlobRef, Registered, Time, Float, isFloat, isInteger } from "./canonical.js";
import { damaged } from "./errors.js";

const LAST_MS = 253_402_300_800_000; // the year 10000
const ID = /^[A-Za-z0-9_.:@~+=-]{1,160}$/;
export const STATUSES = ["running", "suspended", "completed", "failed", "paused", "cancelled"];

const isText = (value) => typeof value === "string";
const isMap = (value) => value instanceof Map;
const isBytes = (value) => value instanceof Uint8Array;
const isFlag = (value) => typeof value === "boolean";
const isAny = () => true;
const isCount = (value) => isInteger(value) && value >= 0 && value < 2n ** 63n;
const isTime = (value) => isInteger(value) && value >= 0 && value < LAST_MS;
const isCrc = (value) => value === null || (isInteger(value) && value >= 0 && value < 2 ** 32);
const isCode = (value) => isText(value) || (isInteger(value) && value > -(2n ** 63n) && value < 2n ** 63n);
const isId = (value) => isText(value) && ID.test(value);
const maybe = (shape) => (value) => value === null || shape(value);
const list = (shape) => (value) => Array.isArray(value) && value.every(shape);
const row =
  (...shapes) =>
  (value) =>
    Array.isArray(value) && value.length === shapes.length && shapes.every((shape, i) => shape(value[i]));
const oneOf =
  (...values) =>
  (value) =>
    values.includes(value);
const fields = (wanted, may) => (value) =>
  isMap(value) &&
  Object.keys(wanted).every((name) => value.has(name)) &&
  Object.entries({ ...wanted, ...may }).every(([name, shape]) => !value.has(name) || shape(value.get(name)));

const isFailure = fields(
  { type: (value) => isText(value) && !value.includes("\0"), message: isText },
  { code: maybe(isCode), detail: isAny },
);
const isSum = row(isCount, isCount);
const isTotals = maybe(list(isSum));
const isReason = maybe(isText);
const isVoid = list(row(isCount, isCount, isCount, isCount));
const call = [isText, isText, isCrc];
/** An item of this shape may stand in a blob; others may not, but `isAny`. */
const inBlobs = new Set([isFailure, isTotals, isReason, isMap, isVoid]);

const EVENT_SHAPES = {
  Started: [isMap, isAny],
  StepCompleted: [...call, isAny],
  StepFailed: [...call, isFailure],
  AttemptFailed: [...call, isCount, isFailure, isTime],
  StepIntended: call,
  StepCharged: [isText, isCount, isCount, isTotals],
  TimerFired: [isText],
  SignalReceived: [isText, isText, isAny],
  Drawn: [oneOf("now", "random", "uuid", "patched"), isAny],
  Spent: [isCount, isCount, isText, isFlag, isTotals],
  ChildStarted: [isText, isText, isCrc, isId],
  ChildFinished: [isText, oneOf("completed", "failed", "cancelled"), isAny],
  CancelRequested: [isReason],
  Paused: [],
  Resumed: [],
  UpdateReceived: [isText, isText, isAny],
  UpdateReplied: [isText, isFlag, isAny],
  Emitted: [isText, isAny],
  Completed: [isAny],
  Failed: [isFailure],
  Cancelled: [isReason],
  ContinuedAsNew: [isAny],
  Retried: [isVoid, isCount, isCount],
  ToppedUp: [isCount, isCount, isCount],
};
const DRAWN_SHAPES = {
  now: isTime,
  random: (value) => isFloat(value) && plainNumber(value) >= 0 && plainNumber(value) < 1,
  uuid: isText,
  patched: isText,
};
const HEADER_SHAPES = {
  id: isId,
  run: isId,
  workflow: isId,
  version: isCount,
  generation: isCount,
  parent: maybe(list(isText)),
  chain: (value) => list(isText)(value) && value.length > 0,
  max_depth: isCount,
  accounts: list(row(isId, maybe(isCount), maybe(isCount))),
  shared: isFlag,
  spent: isSum,
  totals: list(isSum),
  carried: list(row(isText, isText, isAny)),
  forked_from: maybe(row(isId, isCount)),
};
const RECORD_SHAPES = {
  id: isId,
  run: isId,
  workflow: isId,
  version: isCount,
  generation: isCount,
  created_at: isTime,
  updated_at: isTime,
  status: oneOf(...STATUSES),
  attempt: isCount,
  spent: fields({ tokens: isCount, usd: (value) => isInteger(value) || isFloat(value) }, {}),
  waiting: list(isText),
  wake_at: maybe(isCount),
  parent: maybe(isId),
  depth: isCount,
  attributes: (value) => isMap(value) && [...value].every(([key, each]) => isId(key) && isAttribute(each)),
  failure: maybe(isFailure),
  cursor_length: isCount,
  head: isBytes,
  epoch: isCount,
  owner: maybe(isText),
  lease_until: isCount,
  moved_to: maybe(isText),
  ahead: isCount,
  ahead_since: isCount,
  doubted_since: isCount,
  clocks: list(isCount),
  copy: isFlag,
  retried: isCount,
  topped_up: (value) => list(isCount)(value) && [0, 3].includes(value.length),
};
const isAttribute = (value) => isText(value) || isInteger(value) || isFloat(value) || isFlag(value);

/** A decoded number, float or not, as JavaScript's own. */
export const plainNumber = (value) => (value instanceof Float ? value.value : Number(value));

/** What kind of thing a decoded value is, in words. */
export function typeOf(value) {
  if (value === null) return "nil";
  if (isFlag(value)) return "boolean";
  if (isText(value)) return "text";
  if (isFloat(value)) return "float";
  if (isInteger(value)) return "integer";
  if (isBytes(value)) return "bytes";
  if (Array.isArray(value)) return "list";
  if (isMap(value)) return "map";
  if (value instanceof Time) return "time";
  if (value instanceof Registered) return value.name;
  if (value instanceof BlobRef) return "large value";
  return typeof value;
}

const wrong = (what, value) => damaged(`${what} is not of the shape that it has in a history (${typeOf(value)})`);

/** Refused for an event with an item that its kind does not have. `resolved` gives what a blob reference stands for. */
export function checkEvent(kind, names, items, resolved) {
  EVENT_SHAPES[kind].forEach((shape, i) => {
    if (shape === isAny) return;
    const label = kind === "Spent" && names[i] === "label";
    const item = (label || inBlobs.has(shape)) && kind !== "Started" ? resolved(items[i], shape) : items[i];
    if (item !== undefined && !shape(item)) throw wrong(`${names[i]} of ${kind}`, items[i]);
  });
  if (kind === "Drawn") {
    const value = resolved(items[1], DRAWN_SHAPES[items[0]]);
    if (value === undefined || !DRAWN_SHAPES[items[0]](value)) throw wrong(`a drawn ${items[0]}`, items[1]);
  }
  const before = ([a, b, c, d]) => a >= 1 && (a < c || (a === c && b < d));
  if (kind === "Retried" && Array.isArray(items[0]) && !items[0].every(before))
    throw wrong("a range of a Retried", items[0]);
  const failed = (kind === "ChildFinished" && items[1] !== "completed") || (kind === "UpdateReplied" && !items[1]);
  if (failed) {
    const value = resolved(items.at(-1), isFailure);
    if (value !== undefined && !isFailure(value)) throw wrong(`the failure of ${kind}`, items.at(-1));
  }
}

/** Refused for a header, a Map, with a field that is none, or without one. */
export function checkHeader(header, resolved) {
  if (header.get("format") !== 1)
    throw damaged(`the history is of format ${String(header.get("format"))}, and this reader knows format 1`);
  const rules = header.has("loop") ? header.get("loop") : 1;
  if (!isInteger(rules) || rules < 1 || rules > 2)
    throw damaged(
      `the history was written by rules ${String(rules)} of the handler's loop, and this reader knows those up to 2`,
    );
  for (const [name, shape] of Object.entries(HEADER_SHAPES)) {
    if (!header.has(name)) throw damaged(`the history's header lacks ${name}`);
    const value = name === "carried" ? resolved(header.get(name), shape) : header.get(name);
    if (value !== undefined && !shape(value)) throw wrong(`${name} of the header`, header.get(name));
  }
  const parent = header.get("parent");
  if (parent !== null && !(parent.length === 4 && isId(parent[0]) && /^[0-9]{1,18}$/.test(parent[3])))
    throw wrong("parent of the header", parent);
  if (header.get("totals").length !== header.get("accounts").length)
    throw damaged("the header's accounts and totals don't fit");
}

/** Refused for a record, a Map, with a field that is none; `needs` names those that must be there. */
export function checkRecord(record, needs = []) {
  if (!isMap(record)) throw wrong("a record", record);
  for (const name of needs) if (!record.has(name)) throw damaged(`the record lacks ${name}`);
  for (const [name, value] of record) {
    const large =
      value instanceof BlobRef && ["result", "failure", "attributes", "waiting"].includes(name) && needs.length;
    if (!large && RECORD_SHAPES[name] && !RECORD_SHAPES[name](value)) throw wrong(`${name} of the record`, value);
  }
}

const isChild = row(isText, isCount, oneOf("completed", "failed", "cancelled"), isAny, maybe(isId));
const REQUEST_SHAPES = {
  signal: isAny,
  update: isAny,
  cancel: isReason,
  pause: (value) => value === null,
  resume: (value) => value === null,
  child: isChild,
};

/** Refused for what is no request: [entry, kind, name, payload, accepted]. */
export function checkRequest(request) {
  const whole =
    Array.isArray(request) &&
    (request.length === 4 || request.length === 5) &&
    request.slice(0, 3).every(isText) &&
    request.slice(4).every(isTime);
  if (!whole) throw wrong("a request", request);
  const shape = REQUEST_SHAPES[request[1]];
  if (shape && !(request[3] instanceof BlobRef) && !shape(request[3]))
    throw wrong("the payload of a request", request[3]);
}

export { isId };
