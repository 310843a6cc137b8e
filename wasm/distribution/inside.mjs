// Starts Pyodide under Node with two directories of the host mounted, and runs one Python program in it.
// Usage: node inside.mjs STAGE SITE_PACKAGES PROGRAM EPOCH
import { readFileSync } from "node:fs";
import { loadPyodide } from "../node_modules/pyodide/pyodide.mjs";

const [stage, sitePackages, program, epoch] = process.argv.slice(2);
// SOURCE_DATE_EPOCH makes py_compile write bytecode that holds the source's hash in place of its time.
const pyodide = await loadPyodide({ env: { HOME: "/home/pyodide", SOURCE_DATE_EPOCH: epoch } });
pyodide.mountNodeFS("/stage", stage);
pyodide.mountNodeFS("/host", sitePackages);
pyodide.runPython(readFileSync(program, "utf8"));
