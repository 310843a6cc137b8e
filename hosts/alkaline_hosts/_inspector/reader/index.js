// What the package gives.
export { AROUND, BlobRef, Float, Registered, Time, decode, isFloat, isInteger, split } from "./canonical.js";
export { Refused } from "./errors.js";
export { KINDS, ENDINGS } from "./events.js";
export { Blobs, History, readHistory } from "./history.js";
export { readBundle, requestsOf } from "./bundle.js";
export { crc32, readLog } from "./log.js";
export { open, recordOfBundle } from "./opening.js";
export { hex, sha256 } from "./sha256.js";
export { plainNumber, typeOf } from "./shapes.js";
export { Entries, listOthers, listRuns, positionOf, readRun } from "./store.js";
export { timelineOf } from "./timeline.js";
export { compare } from "./comparing.js";
