// Databases of IndexedDB as a whole: open, delete, remember. One expression, an object of functions.
(() => {
  "use strict";

  const REGISTRY = "alkaline-edge stores"; // a database: which stores this origin has seen
  const SCRATCH = "alkaline-edge scratch"; // a database that is made to be deleted: see freshen
  const PRECAUTION = 2000; // ms that freshening may take before a store is opened without
  const FLUSH = 25; // ms in which Chromium, behind the deletion, has flushed the old log; nothing tells when it has

  let freshened; // the promise of freshen, one for this page or worker
  const anew = new Set(); // names that were deleted here: what is made under them is new, not lost

  class Failure extends Error {
    constructor(kind, message) {
      super(message);
      this.kind = kind;
    }
  }

  const textOf = (error) => `${error?.name ?? "Error"}: ${error?.message ?? error}`;

  // What an error says about a transaction that was not completed: `full` and `refused` mean that nothing was
  // written; anything else may have come after the write.
  function kindOf(error) {
    if (error instanceof Failure) return error.kind;
    if (error?.name === "QuotaExceededError") return "full";
    if (["DataCloneError", "DataError", "ConstraintError", "TypeError"].includes(error?.name)) return "refused";
    return "lost";
  }

  function openDatabase(name, version, upgrade, patience) {
    return new Promise((resolve, reject) => {
      let request;
      let blocked = false;
      let over = false;
      try {
        request = indexedDB.open(name, version);
      } catch (error) {
        reject(new Failure("unavailable", textOf(error)));
        return;
      }
      const timer = setTimeout(() => {
        over = true;
        reject(new Failure("blocked", blocked ? "a connection of an older version is open" : "no answer"));
      }, patience);
      request.onblocked = () => (blocked = true);
      // Chromium alone says whether it makes the database in place of one that it has lost, and once.
      const lossOf = (event) => (event.dataLoss === "total" ? event.dataLossMessage || "data loss" : "");
      request.onupgradeneeded = (event) => upgrade(request.result, request.transaction, lossOf(event));
      request.onsuccess = () => {
        clearTimeout(timer);
        if (over) request.result.close();
        else resolve(request.result);
      };
      request.onerror = () => {
        clearTimeout(timer);
        const kinds = { VersionError: "newer", QuotaExceededError: "full" };
        reject(new Failure(kinds[request.error?.name] ?? "unavailable", textOf(request.error)));
      };
    });
  }

  // One request in a transaction of its own; resolves with its result once the transaction is complete.
  function once(db, store, mode, act) {
    return new Promise((resolve, reject) => {
      const tx = db.transaction(store, mode, mode === "readwrite" ? { durability: "strict" } : undefined);
      const request = act(tx.objectStore(store));
      tx.oncomplete = () => resolve(request.result);
      tx.onabort = () => reject(tx.error ?? new Failure("lost", "the transaction was aborted"));
    });
  }

  function deleteDatabase(name, patience) {
    anew.add(name);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Failure("blocked", "something keeps it open")), patience);
      const request = indexedDB.deleteDatabase(name);
      request.onsuccess = request.onerror = () => {
        clearTimeout(timer);
        if (request.error) reject(new Failure("unavailable", textOf(request.error)));
        else resolve();
      };
    });
  }

  // Chromium keeps IndexedDB in LevelDB, which appends to the log that it finds. Behind a record that a killed browser
  // left incomplete, what is appended can't be read, so that the next start takes all of the origin's databases for
  // corrupted and deletes them (google/leveldb#1287). The deletion of a database makes it begin a new log, before
  // anything is acknowledged in the old one. Gives Chromium's words for a loss that it noticed here, or "".
  async function freshen(patience) {
    let lost = "";
    if (!/Chrom(e|ium)\//.test(globalThis.navigator?.userAgent ?? "")) return lost;
    try {
      const db = await openDatabase(SCRATCH, 1, (made, tx, loss) => (lost = loss), Math.min(patience, PRECAUTION));
      db.close();
      await deleteDatabase(SCRATCH, Math.min(patience, PRECAUTION));
      await new Promise((done) => setTimeout(done, FLUSH));
    } catch {
      // A store can do without; what is wrong with IndexedDB, its own open says.
    }
    return lost;
  }

  // What Chromium has lost that may have been the database `name`, in its words; "" where nothing was.
  async function lossBefore(name, patience) {
    const lost = await (freshened ??= freshen(patience));
    return anew.has(name) ? "" : lost;
  }

  // Two databases, since a database can't remember that it was deleted.
  async function withRegistry(patience, mode, act) {
    const db = await openDatabase(REGISTRY, 1, (made) => made.createObjectStore("stores"), patience);
    db.onversionchange = () => db.close();
    try {
      return await once(db, "stores", mode, act);
    } finally {
      db.close();
    }
  }

  return { Failure, deleteDatabase, kindOf, lossBefore, once, openDatabase, textOf, withRegistry };
})()
