// Databases of IndexedDB as a whole: open, delete, remember. One expression, an object of functions.
(() => {
  "use strict";

  const REGISTRY = "alkaline-edge stores"; // a database: which stores this origin has seen

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
      request.onupgradeneeded = () => upgrade(request.result, request.transaction);
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

  return { Failure, deleteDatabase, kindOf, once, openDatabase, textOf, withRegistry };
})()
