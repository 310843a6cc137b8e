// Section 6 of SPEC.md: a whole run as bytes.
import { AROUND, decode, isInteger } from "./canonical.js";
import { Refused, damaged } from "./errors.js";
import { Blobs, readHistory } from "./history.js";
import { sameBytes, sha256 } from "./sha256.js";
import { checkRecord, checkRequest, isId } from "./shapes.js";

const SEALED_BUNDLE = new TextEncoder().encode("alkaline_edge sealed bundle");
const MAX_BUNDLE = 1_073_741_824;
const BUNDLE_FIELDS = {
  id: "text",
  run: "text",
  workflow: "text",
  version: "count",
  generation: "count",
  epoch: "count",
  status: "text",
  record: "map",
  requests: "list",
  markers: "list",
  shared: "list",
  handoff: "flag",
};
const FIELD_SHAPES = {
  text: (value) => typeof value === "string",
  count: (value) => isInteger(value) && value >= 0 && value < 2n ** 63n,
  map: (value) => value instanceof Map,
  list: Array.isArray,
  flag: (value) => typeof value === "boolean",
};

const isPair = (pair) => Array.isArray(pair) && pair.length === 2 && isId(pair[0]) && pair[1] instanceof Uint8Array;
const isAccount = (each) =>
  Array.isArray(each) &&
  each.length === 3 &&
  isId(each[0]) &&
  FIELD_SHAPES.count(each[1]) &&
  FIELD_SHAPES.count(each[2]);
const allBytes = (items) => Array.isArray(items) && items.every((item) => item instanceof Uint8Array);

/** Whether `bytes` begin as a sealed bundle. */
export const isSealedBundle = (bytes) =>
  bytes[0] === 0xc1 && sameBytes(bytes.subarray(1, 1 + SEALED_BUNDLE.length), SEALED_BUNDLE);

/** The run in a bundle: `header` by name, and its verified `history`. */
export function readBundle(bytes) {
  if (isSealedBundle(bytes)) throw new Refused("sealed", "this bundle is sealed: open it with its key first");
  if (bytes.length > MAX_BUNDLE) throw damaged(`a bundle has at most ${MAX_BUNDLE} bytes`);
  const raw = decode(bytes, { around: AROUND });
  if (!Array.isArray(raw) || raw.length !== 6 || raw[0] !== "alkaline_edge bundle")
    throw new Refused("foreign", "these bytes are no bundle of alkaline_edge");
  const [, format, fields, commits, blobs, digest] = raw;
  if (format !== 1)
    throw new Refused("newer", `the bundle is of format ${String(format)}, and this reader knows format 1`);
  const body = new Uint8Array(bytes.length - 34); // the first five items as an array of their own
  body.set(bytes.subarray(0, bytes.length - 34));
  body[0] = 0x95;
  if (!(digest instanceof Uint8Array) || !sameBytes(sha256(body), digest))
    throw damaged("the bundle's digest does not fit: it was damaged or edited");
  if (!(fields instanceof Map) || fields.size !== Object.keys(BUNDLE_FIELDS).length)
    throw damaged("the bundle does not have the fields of one");
  for (const [name, kind] of Object.entries(BUNDLE_FIELDS))
    if (!fields.has(name) || !FIELD_SHAPES[kind](fields.get(name)))
      throw damaged(`${name} of the bundle is not what it has to be`);
  const header = Object.fromEntries(fields);
  if (![header.id, header.run, header.workflow].every(isId)) throw damaged("a name in the bundle's header is none");
  if (!allBytes(commits) || !allBytes(blobs)) throw damaged("the commits and blobs of a bundle must be bytes");
  if (![...header.requests, ...header.markers].every(isPair))
    throw damaged("requests and markers of a bundle must be pairs");
  if (!header.shared.every(isAccount)) throw damaged("shared accounts must be [run, tokens, micro-usd]");
  const stored = new Blobs(blobs);
  for (const blob of blobs) decode(blob, { around: AROUND });
  const history = readHistory(commits, stored);
  checkRecord(header.record);
  checkSame(header, history);
  return { header, history };
}

function checkSame(header, history) {
  const { record } = header;
  for (const name of ["workflow", "version", "generation"])
    if (record.has(name) && record.get(name) !== header[name])
      throw damaged(`the bundle's record and its history differ in ${name}`);
  for (const name of ["id", "run", "workflow", "version", "generation"])
    if (history.header.get(name) !== header[name])
      throw damaged("the bundle's header and its history name different runs");
  const missing = history.missing;
  if (missing.length)
    throw new Refused("missing", `a large value of the history is missing from the bundle: ${missing[0].key}`);
}

/** The requests of a bundle that no owner has taken, each {entry, kind, name, payload, accepted}. */
export function requestsOf(header) {
  return header.requests.map(([, raw]) => requestOf(raw));
}

/** A request from its bytes. */
export function requestOf(raw) {
  const request = decode(raw, { around: AROUND });
  checkRequest(request);
  const [entry, kind, name, payload, accepted = null] = request;
  return { entry, kind, name, payload, accepted };
}
