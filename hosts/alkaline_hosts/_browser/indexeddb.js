// The JavaScript half of alkaline_hosts.indexeddb: one expression, a function that takes indexeddb_databases.js and
// gives an object with `makeStore`, `deleteStore` and `nap`.
//
// Rules that the browsers teach:
// - Awaiting anything but an IndexedDB request inside a transaction ends it with the first writes committed. So every
//   operation is one function that issues all of its requests before it returns to the event loop.
// - A commit is durable when the transaction is complete, not when its requests have succeeded; `strict` asks that
//   it has reached the disk by then.
// - Keys are ASCII, so the UTF-16 order of IndexedDB is their byte order.
//
// An operation takes a number and gives its answer to `deliver(number, answer)`, one Python function per store, at
// once: through a promise and Python's event loop each answer would come two turns of the browser's loop later. It is
// one string or one Uint8Array, so nothing is left that Python would have to destroy. Strings: "" committed;
// "C key key" conflict; "E kind text" an error, whose kinds are the keys of REASONS in indexeddb.py.
((databases) => {
  "use strict";

  const { Failure, deleteDatabase, kindOf, lossBefore, once, openDatabase, textOf, withRegistry } = databases;
  const VERSION = 1;
  const ENTRIES = "entries"; // key -> {v: Uint8Array, ver: id of the batch that put it}
  const META = "meta"; // "store" -> {id, created}
  const LOST = "lost"; // what the registry has in place of the id of a store that the browser says that it has lost
  const LONGEST_TIMER = 2 ** 31 - 1;
  const [COMMITTED, HELLO, HERE] = [0, 1, 2]; // what stores of one database say to each other

  const answer = (error) => `E ${kindOf(error)} ${error instanceof Failure ? error.message : textOf(error)}`;

  // Not crypto.randomUUID: a page on plain http has none.
  function randomId() {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // A connection that is closing says so here, before anything has begun.
  function begin(db, mode, options) {
    try {
      return db.transaction(ENTRIES, mode, options);
    } catch (error) {
      throw new Failure("closing", textOf(error));
    }
  }

  const rangeOf = (prefix, after) =>
    after >= prefix
      ? IDBKeyRange.bound(after, `${prefix}\x7f`, true, true)
      : IDBKeyRange.bound(prefix, `${prefix}\x7f`, false, true);

  // One Uint8Array: the length of the header (4 bytes, little endian), the header (ASCII), all values in order.
  function pack(header, values) {
    const head = new TextEncoder().encode(header.join(" "));
    let size = 4 + head.length;
    for (const value of values) size += value.length;
    const packed = new Uint8Array(size);
    new DataView(packed.buffer).setUint32(0, head.length, true);
    packed.set(head, 4);
    let at = 4 + head.length;
    for (const value of values) {
      packed.set(value, at);
      at += value.length;
    }
    return packed;
  }

  function readGet(store, keys, done) {
    const found = new Array(keys.length);
    let waiting = keys.length;
    keys.forEach((key, index) => {
      store.get(key).onsuccess = (event) => {
        found[index] = event.target.result;
        if (--waiting) return;
        const header = [];
        const values = [];
        for (const entry of found) {
          header.push(entry ? entry.ver : "-", entry ? entry.v.length : 0);
          if (entry) values.push(entry.v);
        }
        done(pack(header, values));
      };
    });
  }

  function readList(store, range, limit, done) {
    let keys;
    store.getAllKeys(range, limit).onsuccess = (event) => (keys = event.target.result);
    // Requests of one transaction succeed in the order in which they were made: the keys are there by now.
    store.getAll(range, limit).onsuccess = (event) => {
      const header = [];
      const values = [];
      event.target.result.forEach((entry, index) => {
        header.push(keys[index], entry.ver, entry.v.length);
        values.push(entry.v);
      });
      done(pack(header, values));
    };
  }

  // "nchecks nputs ndeletes", then (key version|-) per check, (key length) per put, key per delete.
  function parseBatch(text, bytes) {
    const words = text.split(" ");
    let at = 3;
    let from = 0;
    const checks = [];
    const puts = [];
    for (let i = Number(words[0]); i > 0; i--) checks.push([words[at++], words[at++]]);
    for (let i = Number(words[1]); i > 0; i--) {
      const key = words[at++];
      const length = Number(words[at++]);
      // A view would store the whole buffer behind it.
      puts.push([key, length === bytes.length ? bytes : bytes.slice(from, from + length)]);
      from += length;
    }
    return { checks, puts, deletes: words.slice(at, at + Number(words[2])) };
  }

  class Store {
    constructor(name, deliver, options) {
      this.name = name;
      // With stack switching the Python that continues may block on a promise (pyodide.ffi.run_sync).
      const promising = typeof WebAssembly.Suspending === "function" && deliver.callPromising;
      this.deliver = promising ? (number, answer) => deliver.callPromising(number, answer) : deliver;
      this.options = options; // {expected, replaceLost, patience, askToPersist}
      this.identity = "";
      this.persisted = ""; // "yes", "no", or "" while the browser has not said
      this.closed = false;
      this.db = null;
      this.opening = null;
      this.inFlight = new Set(); // how to tell each running operation that the connection is gone
      this.watchers = new Set();
      this.holds = new Map(); // owner -> how to let go of its lock
      this.watched = new Set(); // owners whose end is waited for
      this.ending = new AbortController();
      this.waking = false;
      this.visible = () => document.visibilityState === "visible" && this.wake();
      if (typeof BroadcastChannel === "function") {
        this.accompanied = false; // telling costs as much as a tenth of a commit, so not without anybody there
        this.channel = new BroadcastChannel(`alkaline-edge ${name}`);
        this.channel.onmessage = (event) => this.hear(event.data);
        this.channel.postMessage(HELLO);
      }
      // A frozen page misses messages.
      if (typeof document === "object") document.addEventListener("visibilitychange", this.visible);
    }

    connection() {
      if (this.db) return this.db;
      this.opening ??= this.open().finally(() => (this.opening = null));
      return this.opening;
    }

    async open() {
      const { patience, expected, replaceLost } = this.options;
      if (typeof indexedDB === "undefined" || indexedDB === null) throw new Failure("unavailable", "no indexedDB");
      const before = await lossBefore(this.name, patience);
      let lost = ""; // why this database had to be made, where another one was there
      const upgrade = (made, tx, loss) => {
        lost = loss || before;
        made.createObjectStore(ENTRIES);
        made.createObjectStore(META);
        tx.objectStore(META).put({ id: randomId(), created: Date.now() }, "store");
      };
      const db = await openDatabase(this.name, VERSION, upgrade, patience);
      try {
        db.onversionchange = () => this.drop(db, false); // another client deletes or upgrades it
        db.onclose = () => this.drop(db); // the browser took it away
        const found = (await once(db, META, "readonly", (store) => store.get("store")))?.id ?? "";
        let seen = await withRegistry(patience, "readonly", (store) => store.get(this.name));
        if (lost && !seen) {
          seen = LOST; // the registry is gone as well; what made this database is not told a second time
          await withRegistry(patience, "readwrite", (store) => store.put(LOST, this.name));
        }
        const known = this.identity || expected || seen || "";
        if (known && known !== found && (this.identity || !replaceLost)) {
          const why = known === LOST ? "the browser lost it" : `store ${known.slice(0, 8)} is not there`;
          throw new Failure("gone", lost || why);
        }
        if (seen !== found) await withRegistry(patience, "readwrite", (store) => store.put(found, this.name));
        this.identity = found;
      } catch (error) {
        db.close();
        const kind = kindOf(error) === "lost" ? "unavailable" : kindOf(error); // no batch was begun
        throw error instanceof Failure && kind === error.kind ? error : new Failure(kind, textOf(error));
      }
      if (this.closed) {
        db.close();
        throw new Failure("closed", "the host was closed");
      }
      this.db = db;
      if (!this.persisted) this.askToPersist();
      return db;
    }

    // Not awaited: a browser may ask the user, and the user may take a while.
    async askToPersist() {
      const storage = typeof navigator === "object" ? navigator.storage : undefined;
      const ask = this.options.askToPersist && storage?.persist ? "persist" : "persisted";
      if (!storage?.[ask]) return;
      try {
        this.persisted = (await storage[ask]()) ? "yes" : "no";
      } catch {
        this.persisted = "no";
      }
    }

    // Let go of a connection that is no longer good; the next operation opens a new one. Closing leaves running
    // transactions alone; those of a connection that broke get no further event, so they are told here.
    drop(db, broken = true) {
      if (this.db === db) this.db = null;
      db.close();
      if (broken) for (const tell of [...this.inFlight]) tell(db);
    }

    // Run `act(db, settle)` on a connection. What had not begun may be tried again; so may a read (`again`), whatever
    // happened to it.
    async run(again, act) {
      for (let attempt = 1; ; attempt++) {
        let db;
        try {
          db = await this.connection();
          return await this.attempt(db, act);
        } catch (error) {
          const kind = kindOf(error);
          if (!db || (kind !== "closing" && kind !== "lost")) return answer(error);
          this.drop(db);
          if (attempt === 1 && (again || kind === "closing")) continue;
          return answer(kind === "closing" ? new Failure("unavailable", error.message) : error);
        }
      }
    }

    attempt(db, act) {
      return new Promise((resolve, reject) => {
        const tell = (dropped) => dropped === db && settle(new Failure("lost", "the connection to the database was lost"));
        const settle = (error, result) => {
          this.inFlight.delete(tell);
          if (error) reject(error);
          else resolve(result);
        };
        this.inFlight.add(tell);
        try {
          act(db, settle);
        } catch (error) {
          settle(error);
        }
      });
    }

    read(act) {
      return this.run(true, (db, settle) => {
        const tx = begin(db, "readonly");
        tx.onabort = () => settle(tx.error ?? new Failure("lost", "the transaction was aborted"));
        act(tx.objectStore(ENTRIES), (packed) => settle(null, packed));
      });
    }

    get(number, keys) {
      this.answer(number, this.read((store, done) => readGet(store, keys.split(" "), done)));
    }

    list(number, prefix, after, limit) {
      this.answer(number, this.read((store, done) => readList(store, rangeOf(prefix, after), limit, done)));
    }

    commit(number, id, text, bytes) {
      this.answer(number, this.write(id, parseBatch(text, bytes)));
    }

    answer(number, promise) {
      promise.catch(answer).then((found) => this.deliver(number, found));
    }

    // The whole batch in one transaction. The writes are issued right behind the checks, without waiting for their
    // answers; a check that fails aborts the transaction, which undoes them.
    async write(id, { checks, puts, deletes }) {
      const result = await this.run(false, (db, settle) => {
        const tx = begin(db, "readwrite", { durability: "strict" });
        const store = tx.objectStore(ENTRIES);
        const conflicts = [];
        let failed = null;
        let waiting = checks.length;
        tx.oncomplete = () => settle(null, "");
        tx.onabort = () => {
          if (conflicts.length) settle(null, `C ${conflicts.join(" ")}`);
          else settle(failed ?? tx.error ?? new Failure("lost", "the transaction was aborted"));
        };
        for (const [key, version] of checks) {
          store.get(key).onsuccess = (event) => {
            if ((event.target.result?.ver ?? "-") !== version) conflicts.push(key);
            if (--waiting) return;
            if (conflicts.length) tx.abort();
            else tx.commit?.();
          };
        }
        try {
          for (const [key, value] of puts) store.put({ v: value, ver: id }, key);
          for (const key of deletes) store.delete(key);
          if (!checks.length) tx.commit?.();
        } catch (error) {
          failed = new Failure(kindOf(error) === "full" ? "full" : "refused", textOf(error));
          tx.abort();
        }
      });
      if (result === "" && this.accompanied && puts.length + deletes.length) this.tell(COMMITTED);
      return result;
    }

    tell(what) {
      if (!this.closed) this.channel.postMessage(what);
    }

    // Whoever answers HERE has heard HELLO, and tells of every commit from then on; what it committed before is behind
    // the wake that HERE gives.
    hear(what) {
      this.accompanied = true;
      if (what === HELLO) this.tell(HERE);
      else this.wake();
    }

    wake() {
      if (this.waking || !this.watchers.size) return;
      this.waking = true;
      setTimeout(() => {
        this.waking = false;
        for (const watcher of [...this.watchers]) {
          try {
            if (this.watchers.has(watcher)) watcher();
          } catch (error) {
            globalThis.reportError?.(error);
          }
        }
      }, 0);
    }

    // Web Locks end with the tab or worker that holds them, however it ends. They only tell: what keeps a former owner
    // from writing are the checks of its commits.
    lockOf(owner) {
      return `alkaline-edge ${this.name} ${owner}`;
    }

    // Whether this tab now holds a lock in the owner's name. A page on plain http has none.
    hold(owner) {
      const locks = globalThis.navigator?.locks;
      if (!locks) return Promise.resolve(false);
      return new Promise((resolve) => {
        const held = () => new Promise((letGo) => {
          this.holds.set(owner, letGo);
          resolve(true);
        });
        locks.request(this.lockOf(owner), held).catch(() => resolve(false));
      });
    }

    letGo(owner) {
      this.holds.get(owner)?.();
      this.holds.delete(owner);
    }

    // Whether the owner lives; when it does, the watchers are told of its end.
    async alive(owner) {
      const locks = globalThis.navigator?.locks;
      if (!locks) return true;
      const name = this.lockOf(owner);
      if (!(await locks.query()).held.some((lock) => lock.name === name)) return false;
      if (!this.watched.has(owner)) {
        this.watched.add(owner);
        locks
          .request(name, { mode: "shared", signal: this.ending.signal }, () => {
            this.watched.delete(owner);
            this.wake();
          })
          .catch(() => this.watched.delete(owner)); // this store was closed
      }
      return true;
    }

    close() {
      this.closed = true;
      for (const owner of [...this.holds.keys()]) this.letGo(owner);
      this.ending.abort();
      this.watchers.clear();
      this.channel?.close();
      if (typeof document === "object") document.removeEventListener("visibilitychange", this.visible);
      if (this.db) this.drop(this.db, false); // what is in flight is completed
    }
  }

  // A timer that a hidden page may have missed is due at once when the page is seen again.
  function nap(milliseconds) {
    const until = Date.now() + milliseconds;
    let timer;
    let done;
    const check = () => {
      const left = until - Date.now();
      clearTimeout(timer);
      if (left <= 0) stop();
      else timer = setTimeout(check, Math.min(left, LONGEST_TIMER));
    };
    const stop = () => {
      clearTimeout(timer);
      if (typeof document === "object") document.removeEventListener("visibilitychange", check);
      done();
    };
    const promise = new Promise((resolve) => (done = resolve));
    if (typeof document === "object") document.addEventListener("visibilitychange", check);
    check();
    return { promise, stop };
  }

  return {
    available: () => typeof indexedDB !== "undefined" && indexedDB !== null,
    makeStore: (name, deliver, expected, replaceLost, patience, askToPersist) =>
      new Store(name, deliver, { expected, replaceLost, patience, askToPersist }),
    deleteStore: async (name, patience) => {
      try {
        // In this order: what is there and not remembered is an old store, what is remembered and not there is lost.
        await withRegistry(patience, "readwrite", (store) => store.delete(name));
        await deleteDatabase(name, patience);
        return "";
      } catch (error) {
        return answer(error);
      }
    },
    nap,
  };
})
