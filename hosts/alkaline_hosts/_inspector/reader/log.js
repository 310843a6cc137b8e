// Section 10 of SPEC.md: the file of a file host, an append-only log of batches.
import { Refused, damaged } from "./errors.js";

const LOG_MAGIC = [0x89, 0x61, 0x6c, 0x6b, 0x6c, 0x6f, 0x67, 0x0a];
const HEADER_SIZE = 24;
const FRAME_SIZE = 12;
const LEAST = 9;
const LONGEST = 80 * 1024 * 1024;
const SECTOR = 512;

const CRC_TABLE = new Uint32Array(256).map((_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** CRC-32 as zlib has it, begun with `seed`. */
export function crc32(bytes, seed = 0) {
  let crc = ~seed;
  for (let i = 0; i < bytes.length; i++) crc = CRC_TABLE[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** Whether `bytes` begin as a log does. */
export const isLog = (bytes) => LOG_MAGIC.every((byte, i) => bytes[i] === byte);

function asciiOf(bytes, at) {
  let text = "";
  for (const byte of bytes) {
    if (byte > 0x7f) throw damaged("a key in the log is not ASCII", at);
    text += String.fromCharCode(byte);
  }
  return text;
}

/** The items of one record, applied to `entries`; definitions go to the end of `prefixes`. */
function applyItems(bytes, from, prefixes, entries) {
  let at = 0;
  const end = bytes.length;
  const misfit = () => damaged(`the record at byte ${from} holds an item that does not fit`, from);
  const number = () => {
    let value = 0;
    for (let shift = 0; shift <= 35; shift += 7) {
      if (at >= end) throw misfit();
      const byte = bytes[at++];
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw misfit();
  };
  const take = (size) => {
    if (at + size > end) throw misfit();
    at += size;
    return bytes.subarray(at - size, at);
  };
  take(8); // the first batch's id
  while (at < end) {
    const head = number();
    if (head === 7) {
      take(8); // the next batch's id
      continue;
    }
    const operation = head % 4;
    const text = asciiOf(take(number()), from);
    if (operation === 3) {
      if (head !== 3) throw misfit();
      prefixes.push(text);
      continue;
    }
    const prefix = prefixes[Math.floor(head / 4)];
    if (prefix === undefined) throw misfit();
    if (operation === 2) entries.delete(prefix + text);
    else entries.set(prefix + text, take(operation === 1 ? number() : end - at));
  }
}

/**
 * The live keys of a log: `entries` (key to bytes), `records`, and `torn`, how many bytes at the end were being written
 * when the writer stopped. Refused for a file that is none, of another version, or damaged: what was acknowledged and is
 * not to be read any more is never passed over.
 */
export function readLog(bytes) {
  if (!isLog(bytes)) throw new Refused("foreign", "this is no file of alkaline_edge");
  if (bytes.length < HEADER_SIZE) throw damaged("the file is cut within its header", bytes.length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const seed = view.getUint32(20);
  if (crc32(bytes.subarray(0, 20)) !== seed) throw damaged("the file is damaged in its header", 0);
  const [version, flags] = [view.getUint16(8), view.getUint16(10)];
  if (version !== 1 || flags & ~1)
    throw new Refused(
      "newer",
      `the file has format version ${version}, flags ${flags}, and this reader knows version 1, flag 1`,
    );
  const entries = new Map();
  const prefixes = [];
  let at = HEADER_SIZE;
  let records = 0;
  while (bytes.length - at >= FRAME_SIZE) {
    const length = view.getUint32(at + 4);
    const behind = at + FRAME_SIZE + length;
    if (view.getUint32(at + 8) !== (records + 1) % 2 ** 32 || length < LEAST || behind > bytes.length) break;
    if (crc32(bytes.subarray(at + 4, behind), seed) !== view.getUint32(at)) break;
    applyItems(bytes.subarray(at + FRAME_SIZE, behind), at, prefixes, entries);
    records += 1;
    at = behind;
  }
  const why = at < bytes.length ? whyDamaged(bytes, view, at, records, seed) : null;
  if (why) throw damaged(`the file is damaged at record ${records + 1}, byte ${at}: ${why}`, at);
  return { entries, records, torn: bytes.length - at };
}

/** What is wrong where the records stop; null for a torn tail, which was never acknowledged. */
function whyDamaged(bytes, view, at, records, seed) {
  const size = bytes.length;
  if (size - at < FRAME_SIZE) return null;
  const fits = (place, length) =>
    length <= LONGEST &&
    place + FRAME_SIZE + length <= size &&
    crc32(bytes.subarray(place + 4, place + FRAME_SIZE + length), seed) === view.getUint32(place);
  const length = view.getUint32(at + 4);
  if (length >= LEAST && fits(at, length)) return `a record numbered ${view.getUint32(at + 8)} stands in its place`;
  const most = Math.floor((size - at) / (FRAME_SIZE + LEAST)) + 2;
  for (let place = at + 1; place + FRAME_SIZE + LEAST <= size; place++) {
    const ahead = (view.getUint32(place + 8) - records + 2 ** 32) % 2 ** 32;
    if (!ahead || ahead > most) continue;
    const found = view.getUint32(place + 4);
    if (found >= LEAST && fits(place, found)) return `its bytes are wrong, and a whole record follows at byte ${place}`;
  }
  if (size - at > LONGEST) return `${size - at} bytes follow that are no record`;
  const rest = bytes.slice(at);
  if (at + FRAME_SIZE + length > size) {
    new DataView(rest.buffer).setUint32(4, rest.length - FRAME_SIZE);
    return crc32(rest.subarray(4), seed) === view.getUint32(at) ? "its length is wrong" : null;
  }
  // A whole sector of zeros is a part of the write that never reached the disk.
  const edge = (SECTOR - (at % SECTOR)) % SECTOR;
  for (let from = 0, to = edge || SECTOR; from < rest.length; from = to, to += SECTOR)
    if (rest.subarray(from, to).every((byte) => byte === 0)) return null;
  return "all of it is there and its bytes are wrong";
}
