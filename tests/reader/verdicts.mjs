// What the reader says of each of the inputs on stdin: a line of JSON each. An input is its length, 4 bytes big endian, and
// its bytes; the first is the mode: one of those in `shown`.
import { readFileSync } from "node:fs";
import { Refused, compare, decode, hex, open, readBundle, readLog, sha256, timelineOf } from "../../hosts/alkaline_hosts/_inspector/reader/index.js";

const all = new Uint8Array(readFileSync(0));
const view = new DataView(all.buffer, all.byteOffset, all.length);
const inputs = [];
for (let at = 0; at < all.length; ) {
  const size = view.getUint32(at);
  inputs.push(all.slice(at + 4, at + 4 + size));
  at += 4 + size;
}
const mode = new TextDecoder().decode(inputs.shift());

const shown = {
  bundle: (bytes) => {
    const { header, history } = readBundle(bytes);
    return { id: header.id, head: history.head, events: history.events.map(({ kind, at, commit }) => [kind, at, commit]) };
  },
  log: (bytes) => {
    const { entries, torn } = readLog(bytes);
    return { torn, entries: [...entries].map(([key, value]) => [key, hex(sha256(value))]).sort() };
  },
  value: (bytes) => {
    decode(bytes);
    return {};
  },
  pairs: (bytes) => {
    // Two bundles: the length of the first, 4 bytes, and both.
    const cut = 4 + new DataView(bytes.buffer).getUint32(0);
    const { rows, same } = compare(readBundle(bytes.slice(4, cut)).history, readBundle(bytes.slice(cut)).history);
    return { same, whats: rows.map((row) => row.what), where: rows.flatMap((row) => row.where) };
  },
  timeline: async (bytes) => {
    const source = await open(bytes);
    const found = {};
    for (const { id } of await source.runs()) {
      const { record, history, requests } = await source.run(id);
      const { spans, marks, charges, spent, began } = timelineOf(history);
      found[id] = {
        status: record.status, head: history.head, requests: requests.map(({ kind, name }) => [kind, name]), spent, charges, marks,
        spans: spans.map((span) => ({ ...span, start: span.start - began, end: span.end === null ? null : span.end - began })),
      };
    }
    return found;
  },
};

for (const bytes of inputs) {
  try {
    console.log(JSON.stringify({ ok: true, ...(await shown[mode](bytes)) }));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    console.log(JSON.stringify({ ok: false, code: error.code, message: error.message }));
  }
}
