// Bytes of either kind as a source of runs.
import { isSealedBundle, readBundle, requestsOf } from "./bundle.js";
import { Refused } from "./errors.js";
import { isLog, readLog } from "./log.js";
import { Entries, listRuns, readRun } from "./store.js";

/** What a bundle says of its run, as a record of a store says it. */
export function recordOfBundle({ header, history }) {
  const last = history.events.at(-1);
  return {
    spent: new Map([
      ["tokens", 0],
      ["usd", 0],
    ]),
    attributes: new Map(),
    waiting: [],
    wake_at: null,
    parent: null,
    depth: 0,
    failure: last.kind === "Failed" ? last.failure : null,
    attempt: 0,
    ...Object.fromEntries(header.record),
    result: last.kind === "Completed" ? last.value : null,
    id: header.id,
    run: header.run,
    workflow: header.workflow,
    version: header.version,
    generation: header.generation,
    epoch: header.epoch,
    status: header.status,
    updated_at: last.at,
    created_at: header.record.get("created_at") ?? history.events[0].at,
    cursor_length: history.length,
    head: history.digest,
    owner: null,
  };
}

/** A source of runs: `kind`, `runs()` (records) and `run(id)` ({record, history, requests}). Bytes: a bundle or a log. */
export async function open(given) {
  const bytes =
    given instanceof Uint8Array ? new Uint8Array(given.buffer, given.byteOffset, given.length) : new Uint8Array(given);
  if (isLog(bytes)) {
    const log = readLog(bytes);
    const store = new Entries(log.entries);
    return {
      kind: "log",
      torn: log.torn,
      records: log.records,
      store,
      runs: () => listRuns(store),
      run: (id) => readRun(store, id),
    };
  }
  if (!isSealedBundle(bytes) && !startsAsBundle(bytes)) throw new Refused("foreign", foreign(bytes));
  const bundle = readBundle(bytes);
  const record = recordOfBundle(bundle);
  const run = { record, history: bundle.history, requests: requestsOf(bundle.header) };
  return {
    kind: "bundle",
    runs: async () => [record],
    run: async (id) => {
      if (id !== record.id) throw new Refused("missing", `there is no run ${id} in this bundle`);
      return run;
    },
  };
}

const BUNDLE_START = new TextEncoder().encode("alkaline_edge bundle");

const startsAsBundle = (bytes) =>
  bytes[0] === 0x96 && bytes[1] === 0xb4 && BUNDLE_START.every((byte, i) => bytes[2 + i] === byte);

function foreign(bytes) {
  if (!bytes.length) return "the file is empty";
  if (String.fromCharCode(...bytes.subarray(0, 15)) === "SQLite format 3")
    return "this is a database of SQLite and no file of alkaline_edge";
  return "this is neither a file of alkaline_edge (.alkaline) nor a bundle (.alk)";
}
