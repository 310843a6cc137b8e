// Section 2 of SPEC.md: commits in order, each holding the digest of the one before it.
import { AROUND, BlobRef, decode, isInteger } from "./canonical.js";
import { Refused, damaged } from "./errors.js";
import { ENDINGS, KINDS } from "./events.js";
import { hex, sameBytes, sha256 } from "./sha256.js";
import { checkEvent, checkHeader } from "./shapes.js";

const NAME = new TextEncoder().encode("alkaline_edge");
const MAGIC = new Uint8Array([...NAME, 0, 0, 1]);

/** Large values by the hexadecimal digits of their sha256, decoded when they are asked for. */
export class Blobs {
  constructor(all = []) {
    this.raw = new Map();
    this.values = new Map();
    for (const bytes of all) this.add(bytes);
  }

  add(bytes) {
    const key = hex(sha256(bytes));
    this.raw.set(key, bytes);
    return key;
  }

  has(ref) {
    return this.raw.has(ref.key);
  }

  get(ref) {
    if (!this.values.has(ref.key)) this.values.set(ref.key, decode(this.raw.get(ref.key), { around: AROUND }));
    return this.values.get(ref.key);
  }
}

function brokenAt(commit, number) {
  const first = Array.isArray(commit) ? commit[0] : null;
  if (number === 0 && first instanceof Uint8Array && first.length === 16 && sameBytes(first.subarray(0, 13), NAME)) {
    const needed = (first[13] << 16) | (first[14] << 8) | first[15];
    return new Refused("newer", `the history is of format ${needed}, and this reader knows format 1`, number);
  }
  return damaged(
    `commit ${number} does not follow from the one before it: the history has a gap, or was edited`,
    number,
  );
}

/**
 * Reads commits one by one and verifies each against the one before. `events`: what they hold, each with `n`, `commit`,
 * `at` (ms since 1970), `kind`, `size` and its items by name; large values stand in their places where `blobs` has them.
 */
export class History {
  constructor(blobs = new Blobs()) {
    this.blobs = blobs;
    this.header = null;
    this.events = [];
    this.starts = []; // of each commit, its first event's number
    this.references = new Map();
    this.length = 0;
    this.bytes = 0;
    this.time = 0;
    this.digest = MAGIC;
    this.verified = true; // whoever gets a History has verified all of it: what does not hold is refused
  }

  get head() {
    return hex(this.digest);
  }

  get ended() {
    return this.events.length > 0 && ENDINGS.has(this.events.at(-1).kind);
  }

  add(raw) {
    const number = this.length;
    const commit = decode(raw, { around: AROUND });
    if (!Array.isArray(commit) || commit.length < 2) throw brokenAt(commit, number);
    const [previous, delta, ...events] = commit;
    if (!(previous instanceof Uint8Array) || !sameBytes(previous, this.digest) || !isInteger(delta))
      throw brokenAt(commit, number);
    if (!events.length) throw damaged(`commit ${number} holds no event`, number);
    const time = this.time + Number(delta);
    if (!(time >= 0 && time < 253_402_300_800_000) || (number && delta < 0))
      throw damaged(`commit ${number} is at a time that no history has`, number);
    this.time = time;
    this.starts.push(this.events.length);
    events.forEach((items, place) => this.take(items, number, place, raw.length));
    this.digest = sha256(raw).subarray(0, 16);
    this.length += 1;
    this.bytes += raw.length;
  }

  take(items, number, place, size) {
    const kind = Array.isArray(items) && isInteger(items[0]) && items[0] >= 0 ? items[0] : null;
    if (kind === null) throw damaged(`commit ${number} holds what is no event`, number);
    if (kind >= KINDS.length)
      throw new Refused("newer", `an event of kind ${kind} is unknown: a newer alkaline_edge wrote it`, number);
    const [name, ...names] = KINDS[kind];
    if (items.length !== names.length + 1)
      throw damaged(`a ${name} in commit ${number} has ${items.length - 1} items, not ${names.length}`, number);
    const again = name === "Retried" && !(Array.isArray(items[1]) && !items[1].length);
    const goesOn = again && place === 0 && ["Failed", "Cancelled"].includes(this.events.at(-1)?.kind);
    const raised = name !== "ToppedUp" || (place > 0 && this.events.at(-1).kind === "Retried");
    if (again ? !goesOn : this.ended || !raised || (kind === 0) !== (number === 0 && place === 0))
      throw damaged(`commit ${number} has an event that stands in no history at that place`, number);
    const given = items.slice(1);
    checkEvent(name, names, given, (item) => this.resolved(item));
    if (kind === 0) checkHeader((this.header = given[0]), (item) => this.resolved(item));
    const event = { n: this.events.length, commit: number, at: this.time, kind: name, size };
    names.forEach((each, i) => (event[each] = this.filled(given[i])));
    if (kind === 0 && this.header.get("carried") instanceof BlobRef)
      this.header = event.header = new Map(this.header).set("carried", this.filled(this.header.get("carried")));
    this.events.push(event);
  }

  /** The numbers of the events that a Retried has taken back: they happened, and count no more. */
  get voided() {
    const found = new Set();
    for (const event of this.events) {
      if (event.kind !== "Retried" || !Array.isArray(event.void)) continue;
      for (const [commit, place, until, behind] of event.void.map((range) => range.map(Number))) {
        const end = (this.starts[until] ?? Infinity) + behind;
        for (let n = this.starts[commit] + place; n < Math.min(end, event.n); n++) found.add(n);
      }
    }
    return found;
  }

  /** What an item stands for, for its shape: undefined where its large value is not at hand. */
  resolved(item) {
    if (!(item instanceof BlobRef)) return item;
    return this.blobs.has(item) ? this.blobs.get(item) : undefined;
  }

  filled(item) {
    if (!(item instanceof BlobRef)) return item;
    this.references.set(item.key, item);
    return this.blobs.has(item) ? this.blobs.get(item) : item;
  }

  /** References to large values that are not there. */
  get missing() {
    return [...this.references.values()].filter((ref) => !this.blobs.has(ref));
  }
}

/** The history of `commits`, a list of bytes, verified. */
export function readHistory(commits, blobs = new Blobs()) {
  const history = new History(blobs);
  for (const raw of commits) history.add(raw);
  if (!history.length) throw damaged("the history does not begin with a Started event");
  return history;
}
