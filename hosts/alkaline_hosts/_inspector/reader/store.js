// Section 5 of SPEC.md: runs under their keys, in anything that lists and gets.
import { AROUND, BlobRef, decode, split } from "./canonical.js";
import { Refused, damaged } from "./errors.js";
import { Blobs, History } from "./history.js";
import { requestOf } from "./bundle.js";
import { hex, sameBytes, sha256 } from "./sha256.js";
import { checkRecord } from "./shapes.js";

const NEEDED = ["run", "workflow", "version", "status", "created_at", "updated_at"];

/** The number that the last part of a key stands for. */
export function positionOf(key) {
  const text = key.slice(key.lastIndexOf("/") + 1);
  if (!/^[a-z][0-9]+$/.test(text) || text.charCodeAt(0) - 96 !== text.length - 1)
    throw damaged(`the key ${key} is at no position`);
  return Number(text.slice(1));
}

/** Whether a value is sealed (section 9). */
export const isSealed = (bytes) => bytes[0] === 0xc1 && bytes[1] === 0x61 && bytes[2] === 0x65;

/** The value under a key; Refused with `sealed` for one that wants a key. */
export function opened(bytes) {
  if (isSealed(bytes))
    throw new Refused("sealed", "this store is sealed: it opens with its keys alone, by `alkaline inspect --keys`");
  return decode(bytes, { around: AROUND });
}

/** Entries that are at hand, as a store: `list` gives those with a prefix in the order of their keys. */
export class Entries {
  constructor(entries) {
    this.entries = entries;
    this.keys = [...entries.keys()].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  }

  from(prefix) {
    let [low, high] = [0, this.keys.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.keys[middle] < prefix) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  async list(prefix) {
    const found = [];
    for (let i = this.from(prefix); i < this.keys.length && this.keys[i].startsWith(prefix); i++)
      found.push([this.keys[i], this.entries.get(this.keys[i])]);
    return found;
  }

  async get(key) {
    return this.entries.get(key) ?? null;
  }
}

/** A record as plain fields; `attributes` and `spent` stay maps. */
export function recordOf(raw, id) {
  const record = opened(raw);
  checkRecord(record, NEEDED);
  return { id, ...Object.fromEntries(record) };
}

/** Every run of a store: its record, or `{id, unreadable}` with why it can't be read. */
export async function listRuns(store) {
  const found = [];
  for (const [key, raw] of await store.list("r/")) {
    const id = key.slice(2);
    try {
      found.push(recordOf(raw, id));
    } catch (error) {
      if (!(error instanceof Refused) || error.code === "sealed") throw error;
      found.push({ id, unreadable: error.message });
    }
  }
  return found;
}

const historyName = (record) => (record.generation ? `${record.run}-${record.generation}` : record.run);

/** The commits of a history; looked for again where one is missing: a segment may have been sealed between two lists. */
async function commitsOf(store, name) {
  for (let n = 0; n < 3; n++) {
    const placed = await placedOf(store, name);
    const commits = Array.from({ length: placed.size }, (_, at) => placed.get(at));
    const gap = commits.indexOf(undefined);
    if (gap < 0) return commits;
    if (n === 2) throw damaged(`commit ${gap} is missing from the store: the history has a gap`, gap);
  }
  return [];
}

async function placedOf(store, name) {
  const placed = new Map();
  const place = (n, raw) => {
    if (isSealed(raw)) opened(raw);
    if (placed.has(n) && !sameBytes(placed.get(n), raw))
      throw damaged(`commit ${n} stands there twice, with other bytes`, n);
    placed.set(n, raw);
  };
  for (const [key, raw] of await store.list(`s/${name}/`)) {
    if (isSealed(raw)) opened(raw);
    const first = positionOf(key);
    split(raw).forEach((commit, i) => place(first + i, commit));
  }
  for (const [key, raw] of await store.list(`h/${name}/`)) place(positionOf(key), raw);
  return placed;
}

async function blobOfRun(store, run, ref) {
  const chunks = await store.list(`b/${run}/${ref.key}/`);
  chunks.forEach(([key], n) => {
    if (positionOf(key) !== n) throw damaged(`a large value of the run lacks its chunk ${n}`);
  });
  const parts = chunks.map(([, raw]) => (isSealed(raw) ? opened(raw) : raw));
  const bytes = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  if (bytes.length !== ref.size || hex(sha256(bytes)) !== ref.key)
    throw new Refused("missing", "a large value of the run is missing from the store, or damaged");
  return bytes;
}

/** References in a commit to what stands in blobs. */
function referencesIn(commit) {
  const found = [];
  for (const items of commit.slice(2)) {
    if (!Array.isArray(items)) continue;
    for (const item of items) if (item instanceof BlobRef) found.push(item);
    if (items[0] === 0 && items[1] instanceof Map && items[1].get("carried") instanceof BlobRef)
      found.push(items[1].get("carried"));
  }
  return found;
}

/** One run of a store: its `record`, verified `history` and `requests`; Refused (missing) where there is none. */
export async function readRun(store, id) {
  const raw = await store.get(`r/${id}`);
  if (raw === null) throw new Refused("missing", `there is no run ${id}`);
  const record = recordOf(raw, id);
  for (const name of ["result", "failure", "attributes", "waiting"])
    if (record[name] instanceof BlobRef)
      record[name] = decode(await blobOfRun(store, record.run, record[name]), { around: AROUND });
  const history = new History(new Blobs());
  for (const commit of await commitsOf(store, historyName(record))) {
    const decoded = decode(commit, { around: AROUND });
    for (const ref of Array.isArray(decoded) ? referencesIn(decoded) : [])
      if (!history.blobs.has(ref)) history.blobs.add(await blobOfRun(store, record.run, ref));
    history.add(commit);
    if (history.length === record.cursor_length && record.head?.length && !sameBytes(record.head, history.digest))
      throw damaged(`the history does not end as its record says, at commit ${record.cursor_length - 1}`);
  }
  if (record.cursor_length > history.length)
    throw damaged(
      `the store lost the end of the history: ${history.length} of ${record.cursor_length} commits are there`,
    );
  if (!history.length) throw damaged("the history does not begin with a Started event");
  if (history.header.get("id") !== id || history.header.get("run") !== record.run)
    throw damaged("record and history name different runs");
  const requests = [];
  for (const [, request] of await store.list(`i/${id}/`))
    requests.push(requestOf(isSealed(request) ? opened(request) : request));
  return { record, history, requests };
}

/**
 * What else stands in a store than runs: `schedules`, `budgets` and `limits`, maps by name, and `boards`, each with its
 * `head` and `tasks`. One that can't be read is left out, with why it can't under `unreadable`.
 */
export async function listOthers(store) {
  const unreadable = [];
  const mapsUnder = async (prefix) => {
    const found = new Map();
    for (const [key, raw] of await store.list(prefix)) {
      try {
        const value = opened(raw);
        if (value instanceof Map) found.set(key.slice(prefix.length), value); // under l/ stand leases of runs as well: lists
      } catch (error) {
        if (!(error instanceof Refused) || error.code === "sealed") throw error;
        unreadable.push(`${key}: ${error.message}`);
      }
    }
    return found;
  };
  const boards = new Map();
  for (const [key, value] of await mapsUnder("k/")) {
    const [name, kind, ...rest] = key.split("/");
    if (!boards.has(name)) boards.set(name, { head: null, tasks: new Map() });
    if (kind === "h" && !rest.length) boards.get(name).head = value;
    else if (kind === "t") boards.get(name).tasks.set(rest.join("/"), value);
  }
  return {
    schedules: await mapsUnder("c/"),
    budgets: await mapsUnder("a/"),
    limits: await mapsUnder("l/"),
    boards,
    unreadable,
  };
}
