// Where runs come from: a file, a database of this origin, a server. Each gives the same: `runs`, `run`, and what can be done.
import {
  Refused,
  listOthers,
  listRuns,
  open,
  plainNumber,
  readBundle,
  readRun,
  recordOfBundle,
  requestsOf,
} from "../reader/index.js";

/** A record with numbers and pairs in place of the reader's types, whichever source it comes from. */
function plainRecord(record) {
  if (record.unreadable)
    return {
      id: record.id,
      status: "unreadable",
      workflow: "",
      unreadable: record.unreadable,
      attributes: [],
      spent: { tokens: 0, usd: 0 },
    };
  const pairs = (value) => (value instanceof Map ? [...value] : Object.entries(value ?? {}));
  const spent = Object.fromEntries(pairs(record.spent));
  return {
    ...record,
    attributes: pairs(record.attributes),
    waiting: Array.isArray(record.waiting) ? record.waiting : [],
    spent: { tokens: plainNumber(spent.tokens ?? 0), usd: plainNumber(spent.usd ?? 0) },
    created_at: Number(record.created_at),
    updated_at: Number(record.updated_at),
  };
}

/** Of a store that is at hand or in this browser. */
class StoreSource {
  constructor(title, kind, store, note = "") {
    Object.assign(this, { title, kind, store, note, verbs: new Set(), live: kind === "browser" });
  }

  async runs(onPage) {
    onPage((await listRuns(this.store)).map(plainRecord), true);
  }

  async run(id) {
    const { record, history, requests } = await readRun(this.store, id);
    return { record: plainRecord(record), history, requests };
  }

  /** What stands beside the runs. */
  others() {
    return listOthers(this.store);
  }

  /** Looks at the run's record now and then; a file that was dropped does not change. */
  follow(id, changed) {
    if (!this.live) return () => {};
    let before = null;
    const timer = setInterval(async () => {
      const raw = await this.store.get(`r/${id}`).catch(() => null);
      const now = raw && raw.join();
      if (before !== null && now !== before) changed();
      before = now;
    }, 1000);
    return () => clearInterval(timer);
  }

  close() {
    this.store.close?.();
  }
}

/** A file's bytes: a store or a bundle. */
export async function fileSource(name, bytes) {
  const found = await open(bytes);
  if (found.kind === "log") {
    const torn = found.torn
      ? `Its last ${found.torn} bytes were being written when it was copied, and are left out.`
      : "";
    const source = new StoreSource(name, "file", found.store, torn);
    source.size = bytes.length;
    return source;
  }
  const run = await found.run((await found.runs())[0].id);
  const record = plainRecord(run.record);
  return {
    title: name,
    kind: "bundle",
    note: "",
    size: bytes.length,
    verbs: new Set(),
    live: false,
    runs: async (onPage) => onPage([record], true),
    run: async () => ({ ...run, record }),
    follow: () => () => {},
    close: () => {},
  };
}

// --- IndexedDB: a database with a store "entries" (key -> {v: bytes, ver}) and one "meta" ---------------------------------
const OURS = ["alkaline-edge stores", "alkaline-edge scratch"]; // databases of the host's that hold no runs

const answered = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

class Database {
  constructor(db) {
    this.db = db;
    db.onversionchange = () => db.close();
  }

  entries() {
    return this.db.transaction("entries").objectStore("entries");
  }

  async list(prefix) {
    const range = IDBKeyRange.bound(prefix, `${prefix}\x7f`, false, true);
    const entries = this.entries();
    const [keys, values] = await Promise.all([answered(entries.getAllKeys(range)), answered(entries.getAll(range))]);
    return keys.map((key, i) => [key, values[i].v]);
  }

  async get(key) {
    return (await answered(this.entries().get(key)))?.v ?? null;
  }

  close() {
    this.db.close();
  }
}

function openExisting(name) {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name);
    request.onupgradeneeded = () => request.transaction.abort(); // it was not there: do not make it
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(new Refused("missing", `there is no database ${name} in this browser`));
    request.onblocked = () => reject(new Refused("missing", `another tab keeps the database ${name} to itself`));
  });
}

/** The names of this origin's databases that hold runs; [] where the browser does not tell. */
export async function databases() {
  if (typeof indexedDB === "undefined" || !indexedDB?.databases) return [];
  const found = [];
  try {
    for (const { name } of await indexedDB.databases()) {
      if (!name || OURS.includes(name)) continue;
      const db = await openExisting(name);
      const stores = [...db.objectStoreNames];
      db.close();
      if (stores.includes("entries") && stores.includes("meta")) found.push(name);
    }
  } catch {
    return found; // a page without an origin of its own has no databases
  }
  return found.sort();
}

export async function browserSource(name) {
  const db = await openExisting(name);
  if (!db.objectStoreNames.contains("entries")) {
    db.close();
    throw new Refused("foreign", `the database ${name} is none of alkaline_edge`);
  }
  return new StoreSource(name, "browser", new Database(db));
}

// --- a server or Worker, by docs/http.md ----------------------------------------------------------------------------------
/** What a server answered in place of what was asked: `status` is that of HTTP, 0 where nothing answered. */
export class Unanswered extends Error {
  constructor(status, message) {
    super(message);
    this.name = "Unanswered";
    this.status = status;
    this.code = status === 401 || status === 403 ? "forbidden" : status === 0 ? "unreachable" : "refused";
  }
}

const segment = (text) => encodeURIComponent(/^!*\.{1,2}$/.test(text) ? `!${text}` : text);

export class ServerSource {
  constructor(base, token, { readOnly = false, title = "" } = {}) {
    Object.assign(this, {
      base: base.replace(/\/+$/, ""),
      token,
      readOnly,
      kind: "server",
      live: true,
      note: "",
      verbs: new Set(),
    });
    this.title = title || this.base.replace(/^https?:\/\//, "");
  }

  async ask(method, path, { body, query = {}, as = "json", signal } = {}) {
    const wanted = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
    const url = `${this.base}${path}${wanted.length ? `?${new URLSearchParams(wanted)}` : ""}`;
    const headers = this.token ? { authorization: `Bearer ${this.token}` } : {};
    if (body !== undefined) headers["content-type"] = "application/json";
    let response;
    try {
      response = await fetch(url, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        signal,
        cache: "no-store",
        credentials: "omit",
      });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Unanswered(
        0,
        `nothing answers at ${this.base}, or it does not let this page ask: is it up, and is the page's origin among those it was started with (--origin)?`,
      );
    }
    if (!response.ok) throw new Unanswered(response.status, await saidBy(response));
    if (as === "response") return response;
    return as === "bytes" ? new Uint8Array(await response.arrayBuffer()) : response.json();
  }

  /** Learns what the server can do. */
  async begin() {
    const document = await this.ask("GET", "/openapi.json");
    const paths = Object.keys(document.paths ?? {});
    for (const verb of [
      "signals/{name}",
      "updates/{name}",
      "cancel",
      "pause",
      "resume",
      "fork",
      "retry",
      "top-up",
      "top_up",
      "topup",
    ])
      if (paths.some((path) => path.endsWith(`/runs/{id}/${verb}`))) this.verbs.add(verb.split("/")[0]);
    await this.ask("GET", "/runs", { query: { limit: 1 } });
    if (paths.some((path) => path.endsWith("/schedules"))) this.others = () => this.beside();
    return this;
  }

  async runs(onPage) {
    let after = "";
    do {
      const page = await this.ask("GET", "/runs", { query: { limit: 1000, after } });
      if (!Array.isArray(page.runs))
        throw new Unanswered(200, "what answers there is no alkaline server: it gave no list of runs");
      after = page.after;
      const left = (page.unreadable ?? []).map((id) => plainRecord({ id, unreadable: "the server can't read it" }));
      onPage([...page.runs.map(plainRecord), ...left], !after);
    } while (after);
  }

  async run(id) {
    const [record, bytes] = await Promise.all([
      this.ask("GET", `/runs/${segment(id)}`),
      this.ask("GET", `/runs/${segment(id)}/bundle`, { as: "bytes" }),
    ]);
    const bundle = readBundle(bytes);
    return {
      record: plainRecord({ ...recordOfBundle(bundle), ...record }),
      history: bundle.history,
      requests: requestsOf(bundle.header),
    };
  }

  /** All pages of a list of the server's, as maps. */
  async listed(path, name) {
    const found = [];
    let after = "";
    do {
      const page = await this.ask("GET", path, { query: { limit: 1000, after } });
      found.push(...page[name].map(mapped));
      after = page.after;
    } while (after && found.length < MOST_BESIDE);
    return found;
  }

  /** What stands beside the runs; its limits and budgets are for who has the store. */
  async beside() {
    const byKey = (list, key) => new Map(list.map((each) => [each.get(key), each]));
    const [schedules, heads] = await Promise.all([
      this.listed("/schedules", "schedules"),
      this.listed("/boards", "boards"),
    ]);
    const boards = new Map();
    for (const head of heads) {
      const tasks = await this.listed(`/boards/${segment(head.get("name"))}/tasks`, "tasks");
      boards.set(head.get("name"), { head, tasks: byKey(tasks, "id") });
    }
    return { schedules: byKey(schedules, "id"), boards, budgets: new Map(), limits: new Map(), unreadable: [] };
  }

  /** Hears of each new event by the server's stream, and comes back for more when it ends. */
  follow(id, changed, trouble = () => {}) {
    const ending = new AbortController();
    this.listen(id, changed, trouble, ending.signal);
    return () => ending.abort();
  }

  async listen(id, changed, trouble, signal) {
    for (let pause = 1000, after = ""; !signal.aborted;) {
      try {
        const response = await this.ask("GET", `/runs/${segment(id)}/stream`, {
          as: "response",
          signal,
          query: { after },
        });
        if (response.status === 204) return;
        trouble(null);
        for await (const frame of framesOf(response)) {
          pause = 1000;
          if (frame.id) {
            after = frame.id;
            changed();
          }
          if (frame.event === "end") return changed();
        }
      } catch (error) {
        if (signal.aborted) return;
        trouble(error);
        pause = Math.min(pause * 2, 30_000);
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }

  act(verb, id, { name = "", body, query } = {}) {
    const path = `/runs/${segment(id)}/${verb}${name ? `/${segment(name)}` : ""}`;
    return this.ask("POST", path, { body, query });
  }

  close() {}
}

/** So many schedules, boards, and tasks of each are asked for at most. */
const MOST_BESIDE = 5000;

/** A value of JSON with maps in place of objects, as the reader gives them. */
const mapped = (value) => {
  if (Array.isArray(value)) return value.map(mapped);
  if (value === null || typeof value !== "object") return value;
  return new Map(Object.entries(value).map(([key, each]) => [key, mapped(each)]));
};

async function saidBy(response) {
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered ${response.status} ${response.statusText}`;
  }
}

async function* framesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let left = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    left += value;
    const parts = left.split(/\r?\n\r?\n/);
    left = parts.pop();
    for (const part of parts) {
      const frame = {};
      for (const line of part.split(/\r?\n/)) {
        const at = line.indexOf(":");
        if (at > 0) frame[line.slice(0, at)] = line.slice(at + 1).trimStart();
      }
      yield frame;
    }
  }
}
