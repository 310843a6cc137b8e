// Section 1 of SPEC.md: values, decoded and checked for canonical form in one pass.
import { Refused, damaged } from "./errors.js";
import { hex } from "./sha256.js";

/** Levels of nesting of a value; what stands around it may add `AROUND` more. */
export const MAX_DEPTH = 64;
export const AROUND = 16;
/** Items of a value from outside. */
export const MAX_ITEMS = 5_000_000;

/** A float that is a whole number: 1.0 is no 1. Any other float is a number. */
export class Float {
  constructor(value) {
    this.value = value;
  }
}

/** A time: microseconds since 1970 in UTC, a BigInt. */
export class Time {
  constructor(microseconds) {
    this.microseconds = microseconds;
  }

  /** ISO 8601, with six digits of microseconds where they are not 0. */
  toString() {
    let ms = this.microseconds / 1000n;
    let rest = this.microseconds % 1000n;
    if (rest < 0n) [ms, rest] = [ms - 1n, rest + 1000n];
    const text = new Date(Number(ms)).toISOString();
    return text.endsWith(".000Z") && !rest
      ? text.replace(".000Z", "Z")
      : text.replace("Z", `${String(rest).padStart(3, "0")}Z`);
  }
}

/** A value of a registered type: its name and what it is stored as. Nothing is made of it. */
export class Registered {
  constructor(name, value) {
    this.name = name;
    this.value = value;
  }
}

/** A large value that stands elsewhere: its sha256 and how many bytes it has. */
export class BlobRef {
  constructor(digest, size) {
    this.digest = digest;
    this.size = size;
    this.key = hex(digest);
  }
}

const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const FIRST_TIME = -62_135_596_800_000_000n; // the year 1
const LAST_TIME = 253_402_300_799_999_999n; // the last microsecond of 9999
const EXACT = [1, 2, 4, 8, 16];

const UNSIGNED = { 1: "getUint8", 2: "getUint16", 4: "getUint32", 8: "getBigUint64" };
const SIGNED = { 1: "getInt8", 2: "getInt16", 4: "getInt32", 8: "getBigInt64" };

const cut = (at) => damaged("these bytes are not msgpack, or are cut short: damaged or not ours", at);
const long = (at) => damaged("these bytes are msgpack, but not in canonical form", at);

class Decoder {
  constructor(bytes, deepest, registered) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
    this.end = bytes.length;
    this.items = 0;
    this.deepest = deepest;
    this.registered = registered;
  }

  /** The next `size` bytes as an unsigned number that no shorter form could hold; the form byte is behind us. */
  number(size, least) {
    const at = this.at;
    const value = this.view[UNSIGNED[size]](this.past(size));
    if (value < least) throw long(at);
    return size === 8 ? narrow(value) : value;
  }

  negative(size, most) {
    const at = this.at;
    const value = this.view[SIGNED[size]](this.past(size));
    if (value > most) throw long(at);
    return size === 8 ? narrow(value) : value;
  }

  /** Where the next `size` bytes begin, which are behind us then. */
  past(size) {
    const at = this.at;
    if (at + size > this.end) throw cut(at);
    this.at += size;
    return at;
  }

  take(size) {
    const at = this.past(size);
    return this.bytes.subarray(at, at + size);
  }

  text(size) {
    const raw = this.take(size);
    if (size < 24) {
      let ascii = "";
      for (let i = 0; i < size; i++) {
        if (raw[i] > 0x7f) return this.unicode(raw);
        ascii += String.fromCharCode(raw[i]);
      }
      return ascii;
    }
    return this.unicode(raw);
  }

  unicode(raw) {
    try {
      return UTF8.decode(raw);
    } catch {
      throw damaged("a text in these bytes is not UTF-8", this.at);
    }
  }

  value(depth) {
    if (this.at >= this.end) throw cut(this.at);
    if (++this.items > MAX_ITEMS)
      throw damaged(`these bytes hold more than ${MAX_ITEMS.toLocaleString("en")} items`, this.at);
    const at = this.at;
    const byte = this.bytes[this.at++];
    if (byte < 0x80) return byte;
    if (byte >= 0xe0) return byte - 256;
    if (byte < 0x90) return this.map(byte & 15, depth + 1);
    if (byte < 0xa0) return this.array(byte & 15, depth + 1);
    if (byte < 0xc0) return this.text(byte & 31);
    switch (byte) {
      case 0xc0:
        return null;
      case 0xc2:
        return false;
      case 0xc3:
        return true;
      case 0xc4:
        return this.take(this.number(1, 0));
      case 0xc5:
        return this.take(this.number(2, 256));
      case 0xc6:
        return this.take(this.number(4, 65536));
      case 0xc7:
        return this.long(1, 0, depth);
      case 0xc8:
        return this.long(2, 256, depth);
      case 0xc9:
        return this.long(4, 65536, depth);
      case 0xcb:
        return this.float();
      case 0xcc:
        return this.number(1, 128);
      case 0xcd:
        return this.number(2, 256);
      case 0xce:
        return this.number(4, 65536);
      case 0xcf:
        return this.number(8, 4294967296n);
      case 0xd0:
        return this.negative(1, -33);
      case 0xd1:
        return this.negative(2, -129);
      case 0xd2:
        return this.negative(4, -32769);
      case 0xd3:
        return this.negative(8, -2147483649n);
      case 0xd9:
        return this.text(this.number(1, 32));
      case 0xda:
        return this.text(this.number(2, 256));
      case 0xdb:
        return this.text(this.number(4, 65536));
      case 0xdc:
        return this.array(this.number(2, 16), depth + 1);
      case 0xdd:
        return this.array(this.number(4, 65536), depth + 1);
      case 0xde:
        return this.map(this.number(2, 16), depth + 1);
      case 0xdf:
        return this.map(this.number(4, 65536), depth + 1);
      case 0xc1:
        throw cut(at);
      case 0xca:
        throw long(at); // float 32
      default:
        return this.extension(EXACT[byte - 0xd4], depth);
    }
  }

  deeper(depth, at) {
    if (depth > this.deepest) throw damaged(`the value is past the limit of depth, ${MAX_DEPTH}`, at);
  }

  array(count, depth) {
    if (count) this.deeper(depth, this.at);
    if (count > this.end - this.at) throw cut(this.at); // each item has a byte at least
    const items = new Array(count);
    for (let i = 0; i < count; i++) items[i] = this.value(depth);
    return items;
  }

  map(count, depth) {
    if (count) this.deeper(depth, this.at);
    if (2 * count > this.end - this.at) throw cut(this.at);
    const found = new Map();
    let before = null;
    for (let i = 0; i < count; i++) {
      const [key, raw] = this.key();
      if (before !== null && compareBytes(before, raw) >= 0) throw long(this.at);
      before = raw;
      found.set(key, this.value(depth));
    }
    return found;
  }

  key() {
    const at = this.at;
    if (at >= this.end) throw cut(at);
    const byte = this.bytes[this.at++];
    let size;
    if (byte >= 0xa0 && byte < 0xc0) size = byte & 31;
    else if (byte === 0xd9) size = this.number(1, 32);
    else if (byte === 0xda) size = this.number(2, 256);
    else if (byte === 0xdb) size = this.number(4, 65536);
    else throw damaged("these bytes hold a map with a key that is no text: damaged or not ours", at);
    const from = this.at;
    const text = this.text(size);
    return [text, this.bytes.subarray(from, this.at)];
  }

  float() {
    const at = this.at;
    if (at + 8 > this.end) throw cut(at);
    this.at += 8;
    const value = this.view.getFloat64(at);
    return Number.isInteger(value) ? new Float(value) : value;
  }

  long(size, least, depth) {
    const length = this.number(size, least);
    if (EXACT.includes(length)) throw long(this.at);
    return this.extension(length, depth);
  }

  extension(size, depth) {
    const at = this.at;
    const kind = this.take(1)[0];
    const payload = this.take(size);
    if (kind === 3) return this.registeredValue(at + 1, size, depth + 1);
    if (kind === 1) return timeOf(payload);
    if (kind === 2) return bigOf(payload, at);
    if (kind === 4) return blobOf(payload, at);
    if (kind === 0xff) throw long(at);
    throw new Refused("newer", `extension ${kind} is unknown: a newer alkaline_edge wrote it`, at);
  }

  /** The payload is looked at like the items of a list, by this same decoder: count and depth go on. */
  registeredValue(from, size, depth) {
    this.deeper(depth, from);
    const [at, end] = [this.at, this.end];
    [this.at, this.end] = [from, from + size];
    if (this.bytes[this.at++] !== 0x92) throw long(from);
    const name = this.value(depth);
    if (typeof name !== "string") throw long(from);
    const inner = this.value(depth);
    if (this.at !== this.end) throw long(this.at);
    [this.at, this.end] = [at, end];
    if (!this.registered)
      throw damaged(`the value is of the registered type ${JSON.stringify(name)}, which is not known here`, from);
    return new Registered(name, inner);
  }
}

const narrow = (value) =>
  value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;

function compareBytes(a, b) {
  const size = Math.min(a.length, b.length);
  for (let i = 0; i < size; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return a.length - b.length;
}

function integerOf(payload) {
  const inner = new Decoder(payload, 0, false);
  const value = inner.value(0);
  if (!isInteger(value) || inner.at !== payload.length) throw long(0);
  return value;
}

function timeOf(payload) {
  const microseconds = BigInt(integerOf(payload));
  if (microseconds < FIRST_TIME || microseconds > LAST_TIME)
    throw damaged("a time in these bytes is outside of the years 1 to 9999");
  return new Time(microseconds);
}

function bigOf(payload, at) {
  if (!payload.length) throw long(at);
  let value = BigInt(`0x${hex(payload)}`);
  if (payload[0] & 0x80) value -= 1n << BigInt(8 * payload.length);
  if (value >= -(2n ** 63n) && value < 2n ** 64n) throw long(at);
  const bits = (value < 0n ? -value : value).toString(2).length;
  if (payload.length !== Math.floor(bits / 8) + 1) throw long(at);
  return value;
}

function blobOf(payload, at) {
  if (payload.length < 36 || payload[0] !== 0x92 || payload[1] !== 0xc4 || payload[2] !== 32)
    throw damaged("these bytes refer to a large value by what is no digest", at);
  const size = integerOf(payload.subarray(35));
  if (size < 0) throw long(at);
  return new BlobRef(payload.slice(3, 35), size);
}

/** Whether a decoded value is an integer (and no float). */
export const isInteger = (value) => typeof value === "bigint" || Number.isInteger(value);

/** Whether a decoded value is a float. */
export const isFloat = (value) => value instanceof Float || (typeof value === "number" && !Number.isInteger(value));

/**
 * The value that `bytes` are, all of them; Refused where they are not in canonical form. `around`: levels around it that
 * do not count. `registered: false` refuses values of registered types, as a reader must that would make something of them.
 */
export function decode(bytes, { around = 0, registered = true } = {}) {
  const decoder = new Decoder(bytes, MAX_DEPTH + around, registered);
  const value = decoder.value(0);
  if (decoder.at !== bytes.length) throw cut(decoder.at);
  return value;
}

/** The bytes of each value of several that stand one behind the other. */
export function split(bytes, { around = AROUND } = {}) {
  const found = [];
  const decoder = new Decoder(bytes, MAX_DEPTH + around, true);
  while (decoder.at < bytes.length) {
    const from = decoder.at;
    decoder.items = 0;
    decoder.value(0);
    found.push(bytes.subarray(from, decoder.at));
  }
  return found;
}
