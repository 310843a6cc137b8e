// Flattens a JavaScript value for Python in one crossing: one expression, a function flatten(value, depth) that gives
// [json, blob, ""] or ["", empty, refusal]. In the JSON text null, booleans, strings and safe integers stand for
// themselves; all else is a list that begins with a tag:
//   ["l", ...items]  list      ["o", ...key, value]  dict      ["b", from, to]  bytes, a part of the blob
//   ["f", text]      float     ["i", text]  int                ["d", milliseconds]  datetime
(() => {
  "use strict";

  class Refusal extends Error {}

  const tagOf = (value) => Object.prototype.toString.call(value).slice(8, -1);
  const BYTES = ["Uint8Array", "Uint8ClampedArray", "DataView"];

  const HINTS = {
    Promise: "await it and return its result",
    Response: "return await response.text(), .json() or .arrayBuffer()",
    Blob: "return await blob.arrayBuffer()",
    File: "return await file.arrayBuffer()",
    URL: "return its href",
    PyProxy: "it is a Python value that was wrapped for JavaScript: return it unwrapped",
  };

  function plainNumber(value) {
    if (Number.isSafeInteger(value) && !Object.is(value, -0)) return value;
    return ["f", Object.is(value, -0) ? "-0.0" : Number.isNaN(value) ? "nan" : String(value).replace("Infinity", "inf")];
  }

  class Flattener {
    constructor(depth) {
      this.deepest = depth;
      this.parts = [];
      this.size = 0;
    }

    refuse(path, what, how) {
      throw new Refusal(`${path} is ${what}, which a history can't hold; ${how}`);
    }

    // `depth` bounds a cycle too.
    flat(value, path, depth) {
      if (value === null || value === undefined) return null;
      const kind = typeof value;
      if (kind === "boolean" || kind === "string") return value;
      if (kind === "number") return plainNumber(value);
      if (kind === "bigint") return ["i", String(value)];
      if (kind === "symbol" || (kind === "function" && !isProxy(value))) {
        this.refuse(path, `a JavaScript ${kind}`, "return plain values");
      }
      if (depth >= this.deepest) {
        throw new Refusal(`${path} is nested deeper than ${this.deepest} levels; flatten it, or break the cycle`);
      }
      return this.object(value, path, depth + 1);
    }

    object(value, path, depth) {
      if (isProxy(value)) return this.refuse(path, "a JavaScript PyProxy", HINTS.PyProxy);
      if (Array.isArray(value)) return this.list(Array.from(value), path, depth);
      if (ArrayBuffer.isView(value)) return this.view(value, path, depth);
      const tag = tagOf(value);
      if (tag === "ArrayBuffer" || tag === "SharedArrayBuffer") return this.bytes(new Uint8Array(value));
      if (tag === "Map") return this.dict(value, path, depth);
      if (tag === "Set") return this.list([...value], path, depth);
      if (tag === "Date") return this.date(value, path);
      const prototype = Object.getPrototypeOf(value);
      // An object of another realm (an iframe) has another Object.prototype; its prototype has none.
      if (prototype === null || Object.getPrototypeOf(prototype) === null) {
        return this.dict(Object.entries(value), path, depth);
      }
      const name = value.constructor?.name || tag;
      const how = HINTS[name] ?? HINTS[tag] ?? "return plain values: an object literal, an array, a string";
      return this.refuse(path, `a JavaScript ${name}`, how);
    }

    list(items, path, depth) {
      return ["l", ...items.map((item, index) => this.flat(item, `${path}[${index}]`, depth))];
    }

    dict(entries, path, depth) {
      const flat = ["o"];
      for (const [key, value] of entries) {
        if (typeof key !== "string") {
          throw new Refusal(`${path} has a key of type ${typeof key}; map keys must be strings: write String(key)`);
        }
        flat.push(key, this.flat(value, `${path}.${key}`, depth));
      }
      return flat;
    }

    date(value, path) {
      const time = value.getTime();
      if (Number.isNaN(time)) this.refuse(path, "an invalid Date", "check how it was made");
      return ["d", time];
    }

    // Views of bytes are bytes; views of numbers are lists of them.
    view(value, path, depth) {
      if (!BYTES.includes(tagOf(value))) return this.list(Array.from(value), path, depth);
      return this.bytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
    }

    bytes(part) {
      this.parts.push(part);
      this.size += part.length;
      return ["b", this.size - part.length, this.size];
    }

    blob() {
      const joined = new Uint8Array(this.size);
      let at = 0;
      for (const part of this.parts) {
        joined.set(part, at);
        at += part.length;
      }
      return joined;
    }
  }

  const isProxy = (value) => value[Symbol.toStringTag] === "PyProxy";

  return (value, path, depth) => {
    const flattener = new Flattener(depth);
    try {
      return [JSON.stringify(flattener.flat(value, path, 0)), flattener.blob(), ""];
    } catch (error) {
      if (error instanceof Refusal) return ["", new Uint8Array(0), error.message];
      return ["", new Uint8Array(0), `${path} could not be read: ${error}`];
    }
  };
})()
