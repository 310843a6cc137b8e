// A run on one scale of time, from its history alone: nothing is replayed, and no workflow's code is needed.
//
// A history records what came of a command, and not when it was issued. So where a span begins is inferred by SPEC.md,
// section 4: one scope issues one command after the other, so a command was issued once the one before it was over, and
// a scope begins where its number was issued. StepIntended, ChildStarted and retry_at say it exactly.
import { plainNumber } from "./shapes.js";

const PLACE_OF_ID = /^((?:u?[0-9]+\.)*)([0-9]+)$/;

/** The name of the signal that raises a run's limits. */
const TOP_UP = "alkaline.top_up";

/** A command id in its parts: [the prefix of its scope, its number]. */
export function placeOfId(id) {
  const found = PLACE_OF_ID.exec(id);
  return found ? [found[1], Number(found[2])] : ["", 0];
}

const failureText = (failure) =>
  failure instanceof Map ? `${failure.get("type")}: ${failure.get("message")}` : "a failure";

class Builder {
  constructor(history) {
    this.history = history;
    this.spans = new Map();
    this.marks = [];
    this.signals = [];
    this.updates = [];
    this.paused = null;
    this.charges = [];
    this.others = [];
    const [tokens, micro] = history.header.get("spent");
    this.spent = { tokens: Number(tokens), micro: Number(micro) };
    this.raised = { tokens: 0, micro: 0 };
  }

  /** The limits of the run's budget grow. */
  raise(tokens, micro) {
    this.raised.tokens += Number(tokens);
    this.raised.micro += Number(micro);
  }

  span(event, kind, name) {
    let span = this.spans.get(event.id);
    if (!span) {
      const [scope, number] = placeOfId(event.id);
      span = {
        id: event.id,
        scope,
        number,
        kind,
        name,
        start: null,
        end: null,
        status: "open",
        attempts: [],
        charges: [],
        first: event.n,
        last: event.n,
        firstAt: event.at,
        exact: false,
        depth: scope.split(".").length - 1,
        why: null,
        child: null,
        loose: scope !== "" && number === 1, // the first of a branch: it began there at the earliest, since a limit may have held it
      };
      this.spans.set(event.id, span);
    }
    span.last = event.n;
    return span;
  }

  end(span, event, status, why = null) {
    if (span.end !== null) return; // such as what a race's loser left behind
    Object.assign(span, { end: event.at, status, why });
  }

  attempt(event, status, why = null) {
    const span = this.span(event, "step", event.name);
    span.name ??= event.name; // a charge stands before it, and has no name
    const last = span.attempts.at(-1);
    const attempt = last && last.end === null ? last : { start: last?.retryAt ?? null, end: null };
    if (attempt !== last) span.attempts.push(attempt);
    Object.assign(attempt, { end: event.at, status, why, n: event.n });
    return [span, attempt];
  }

  charge(event, what) {
    this.spent.tokens += Number(event.tokens);
    this.spent.micro += Number(event.micro_usd);
    const charge = {
      n: event.n,
      at: event.at,
      tokens: Number(event.tokens),
      micro: Number(event.micro_usd),
      what,
      refused: event.refused === true,
      total: { ...this.spent },
    };
    this.charges.push(charge);
    return charge;
  }

  take(event) {
    const act = Builder.actions[event.kind];
    if (act) act(this, event);
  }

  static actions = {
    StepIntended: (b, e) => {
      const span = b.span(e, "step", e.name);
      if (!span.attempts.length) Object.assign(span, { start: e.at, exact: true });
      span.attempts.push({ start: e.at, end: null, status: "open", n: e.n, why: null });
    },
    AttemptFailed: (b, e) => {
      const [, attempt] = b.attempt(e, "failed", failureText(e.failure));
      attempt.retryAt = Number(e.retry_at);
    },
    StepCompleted: (b, e) => b.end(b.attempt(e, "completed")[0], e, "completed"),
    StepFailed: (b, e) => b.end(b.attempt(e, "failed", failureText(e.failure))[0], e, "failed", failureText(e.failure)),
    StepCharged: (b, e) => b.span(e, "step", null).charges.push(b.charge(e, `step ${e.id}`)),
    Spent: (b, e) => b.charge(e, typeof e.label === "string" ? e.label : ""),
    TimerFired: (b, e) => b.end(b.span(e, "timer", "timer"), e, "completed"),
    ChildStarted: (b, e) => {
      const span = b.span(e, "child", e.workflow);
      if (span.start === null) Object.assign(span, { start: e.at, exact: true, child: e.child });
    },
    ChildFinished: (b, e) => {
      const failed = e.outcome !== "completed";
      b.end(b.span(e, "child", "child"), e, e.outcome, failed ? failureText(e.value) : null);
    },
    SignalReceived: (b, e) => {
      if (e.name === TOP_UP && Array.isArray(e.payload)) b.raise(e.payload[0], e.payload[1]);
      b.signals.push({ n: e.n, at: e.at, name: e.name, taken: false });
    },
    UpdateReceived: (b, e) => b.updates.push({ entry: e.entry, name: e.name, n: e.n, at: e.at, end: null, ok: null }),
    UpdateReplied: (b, e) => {
      const update = b.updates.find((each) => each.entry === e.entry);
      if (update) Object.assign(update, { end: e.at, ok: e.ok, last: e.n });
    },
    Paused: (b, e) => (b.paused = e),
    Resumed: (b, e) => {
      if (b.paused) b.others.push(other("paused", "paused", b.paused, e));
      b.paused = null;
    },
    Retried: (b, e) => {
      b.marks.push({ n: e.n, at: e.at, kind: "retry", name: "tried again" });
      if (e.tokens || e.micro_usd) b.charge(e, "what was spent before it was tried again");
    },
    ToppedUp: (b, e) => {
      b.marks.push({ n: e.n, at: e.at, kind: "retry", name: "topped up" });
      b.raise(e.tokens, e.micro_usd);
    },
    CancelRequested: (b, e) => b.marks.push({ n: e.n, at: e.at, kind: "cancel", name: "cancel requested" }),
    Emitted: (b, e) => b.marks.push({ n: e.n, at: e.at, kind: "emitted", name: e.topic }),
  };
}

function other(kind, name, from, to) {
  return {
    id: "",
    scope: "",
    number: 0,
    kind,
    name,
    start: from.at,
    end: to ? to.at : null,
    status: to ? "completed" : "open",
    attempts: [],
    charges: [],
    first: from.n,
    last: to ? to.n : from.n,
    firstAt: from.at,
    exact: true,
    depth: 0,
    why: null,
    child: null,
  };
}

/** Where each span begins, scope by scope, and the waits for signals, which are commands without an event of their id. */
function inferStarts(b, began) {
  const scopes = new Map(); // prefix -> {numbers: Map(number -> span or "task"), first, last, end}
  const scopeOf = (prefix) => {
    if (!scopes.has(prefix)) scopes.set(prefix, { prefix, numbers: new Map(), last: -1, end: began });
    return scopes.get(prefix);
  };
  scopeOf("");
  for (const span of b.spans.values()) {
    scopeOf(span.scope).numbers.set(span.number, span);
    for (let prefix = span.scope; prefix;) {
      const scope = scopeOf(prefix);
      scope.last = Math.max(scope.last, span.last);
      scope.end = Math.max(scope.end, span.end ?? span.firstAt);
      if (/^u[0-9]+\.$/.test(prefix)) break; // the handler of an update: no number of another scope
      const [outer, number] = placeOfId(prefix.slice(0, -1));
      if (!scopeOf(outer).numbers.has(number)) scopeOf(outer).numbers.set(number, "task");
      prefix = outer;
    }
  }
  const starts = new Map([["", began]]);
  b.updates.forEach((update, i) => starts.set(`u${i + 1}.`, update.at));
  const inOrder = [...scopes.values()].sort((x, y) => x.prefix.split(".").length - y.prefix.split(".").length);
  for (const scope of inOrder) walkScope(b, scope, scopes, starts, starts.get(scope.prefix) ?? began);
}

function walkScope(b, scope, scopes, starts, began) {
  const most = Math.max(0, ...scope.numbers.keys());
  let free = began; // when the scope could issue its next command
  let group = began; // the same, for a task beside other tasks: one of a group does not wait for another
  let before = null;
  for (let number = 1; number <= most; number++) {
    const found = scope.numbers.get(number);
    if (found === "task") {
      if (before !== "task") group = free;
      const prefix = `${scope.prefix}${number}.`;
      starts.set(prefix, group);
      const next = scope.numbers.get(number + 1);
      const inner = scopes.get(prefix);
      if (inner && (next === undefined || next === "task" || inner.last < next.first)) free = Math.max(free, inner.end);
    } else if (found) {
      if (found.start === null) found.start = Math.min(free, found.firstAt);
      if (found.end !== null) free = Math.max(free, found.end);
    } else {
      const wait = signalOf(b, scope, number, most, free);
      if (wait) free = Math.max(free, wait.end);
    }
    before = found;
  }
}

/** The wait for a signal that a number without an event may be; null for what left no trace, such as its timeout. */
function signalOf(b, scope, number, most, free) {
  let following = number + 1;
  while (following <= most && !(scope.numbers.get(following)?.first >= 0)) following++;
  const limit = scope.numbers.get(following)?.first ?? Infinity;
  const signal = b.signals.find((each) => !each.taken && each.n < limit);
  if (!signal) return null;
  signal.taken = true;
  const end = Math.max(free, signal.at);
  const span = other("signal", signal.name, { at: free, n: signal.n }, { at: end, n: signal.n });
  Object.assign(span, {
    id: `${scope.prefix}${number}`,
    scope: scope.prefix,
    number,
    depth: scope.prefix.split(".").length - 1,
    exact: false,
  });
  b.others.push(span);
  return span;
}

/**
 * What happened in a run, on one scale: `began` and `last` (ms since 1970), `ended`, and
 * - `spans`, in the order in which they began: `kind` (step, timer, signal, child, update, paused), `name`, `id`, `start`, `end`
 *   (null while open), `status`, `attempts`, `charges`, `depth` (how many tasks it is in), `exact`
 *   (whether `start` is recorded), `loose` (it may have begun later: a limit may have held its branch);
 * - `marks`, moments: signals that nothing is known to have waited for, a cancel, that the run was tried again (retry) and what had
 *   failed before (void);
 * - `charges` with running totals, and `accounts`, what may be spent.
 */
export function timelineOf(history) {
  const b = new Builder(history);
  const { voided } = history;
  for (const event of history.events) {
    if (!voided.has(event.n)) b.take(event);
    else if (event.kind === "StepFailed" || event.kind === "Failed")
      b.marks.push({ n: event.n, at: event.at, kind: "void", name: `${event.name ?? "the run"} failed, before` });
  }
  const [began, last] = [history.events[0].at, history.events.at(-1).at];
  inferStarts(b, began);
  if (b.paused) b.others.push(other("paused", "paused", b.paused, null));
  b.updates.forEach((each) => {
    const span = other("update", each.name, each, each.end === null ? null : { at: each.end, n: each.last });
    if (each.ok === false) span.status = "failed";
    b.others.push(span);
  });
  const spans = [...b.spans.values(), ...b.others];
  for (const span of spans) {
    span.start ??= span.firstAt;
    span.attempts.forEach((attempt, i) => (attempt.start ??= i ? attempt.end : span.start));
    if (history.ended && span.end === null && span.kind !== "child") Object.assign(span, { end: last, status: "left" });
  }
  spans.sort((x, y) => x.start - y.start || x.first - y.first);
  for (const signal of b.signals.filter((each) => !each.taken))
    b.marks.push({ n: signal.n, at: signal.at, kind: "signal", name: signal.name });
  const own = history.header.get("accounts").at(-1) ?? null;
  const limit = (given, raised) => (given === null ? null : plainNumber(given) + raised);
  const limits = own ? { tokens: limit(own[1], b.raised.tokens), micro: limit(own[2], b.raised.micro) } : null;
  return { began, last, ended: history.ended, spans, marks: b.marks, charges: b.charges, spent: b.spent, limits };
}
