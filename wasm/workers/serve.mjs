// Runs Workers in workerd and takes commands as JSON lines on stdin, one reply line each on stdout.
//
//   node serve.mjs CONFIG.json
//
// CONFIG: {runtime: "current" | "oldest", storage: DIR, python_modules: [DIR], workerd_options?: [],
//          port?: 0,
//          workers: [{name, entry, sources: [DIR], bindings: {d1: [], kv: [], objects: {BINDING: CLASS},
//                     workflows: {BINDING: CLASS}}, vars: {}, crons: []}]}
// An entry that ends in .js is a Worker in JavaScript, which has no Python beside it.
// First line on stdout: {ready: true, url, pid: PID OF WORKERD}. Commands:
//   {id, do: "fetch", worker, path, method, headers, body}   -> {id, status, body}      body is text, or {base64}
//   {id, do: "scheduled", worker, time, cron}       -> {id, outcome}
// A closed stdin stops everything; so does SIGTERM.

import { readdirSync, readFileSync, realpathSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, relative } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const here = dirname(realpathSync(fileURLToPath(import.meta.url)));
const config = JSON.parse(readFileSync(process.argv[2], "utf8"));

const RUNTIMES = {
  current: {
    package: "./package.json",
    date: "2026-11-01",
    // The second flag makes workerd read the Pyodide bundle from a directory instead of the network.
    flags: ["python_workers", "python_workers_development"],
    modules: "python_modules",
  },
  oldest: { package: "./oldest/package.json", date: "2024-07-01", flags: ["python_workers"], modules: "" },
};
const runtime = RUNTIMES[config.runtime];
const require = createRequire(new URL(runtime.package, import.meta.url));
if (config.runtime === "current") {
  process.env.MINIFLARE_WORKERD_PATH = join(here, "workerd.sh");
  process.env.ALKALINE_WORKERD = require("workerd").default;
  process.env.ALKALINE_BUNDLE = join(here, "build", "bundle");
  process.env.ALKALINE_WORKERD_OPTIONS = (config.workerd_options ?? []).join(" ");
}
const { Miniflare, Log, LogLevel } = require("miniflare");

function filesBelow(directory) {
  return readdirSync(directory, { recursive: true })
    .map((name) => join(directory, name))
    .filter((path) => statSync(path).isFile() && !path.includes("__pycache__"))
    .sort();
}

// As Wrangler does it: what is vendored is data, but for the JavaScript of the SDK.
function moduleType(name, path) {
  if (name.startsWith("python_modules/") && !name.startsWith("python_modules/workers/")) return "Data";
  if (path.endsWith(".py")) return "PythonModule";
  if (path.endsWith(".js")) return "ESModule";
  if (path.endsWith(".wasm")) return "CompiledWasm";
  return "Data";
}

function moduleAt(name, path) {
  return { type: moduleType(name, path), path: join("/app", name), contents: readFileSync(path) };
}

function modulesOf(worker) {
  const modules = new Map();
  modules.set(relative(dirname(worker.entry), worker.entry), worker.entry);
  for (const directory of worker.sources ?? []) {
    for (const path of filesBelow(directory)) {
      const name = relative(directory, path);
      if (!modules.has(name)) modules.set(name, path);
    }
  }
  for (const directory of isPython(worker) ? config.python_modules : []) {
    for (const path of filesBelow(directory)) {
      if (config.runtime === "oldest" && !path.endsWith(".py")) continue;
      modules.set(join(runtime.modules, relative(directory, path)), path);
    }
  }
  return [...modules].map(([name, path]) => moduleAt(name, path));
}

function isPython(worker) {
  return worker.entry.endsWith(".py");
}

function sameNames(names) {
  return Object.fromEntries((names ?? []).map((name) => [name, name]));
}

function workerOptions(worker) {
  const bindings = worker.bindings ?? {};
  const objects = Object.entries(bindings.objects ?? {}).map(([binding, className]) => [
    binding,
    config.runtime === "current" ? { className, useSQLite: true } : className,
  ]);
  return {
    name: worker.name,
    modulesRoot: "/app",
    modules: modulesOf(worker),
    compatibilityDate: runtime.date,
    compatibilityFlags: [...(isPython(worker) ? runtime.flags : []), ...(worker.flags ?? [])],
    d1Databases: sameNames(bindings.d1),
    kvNamespaces: sameNames(bindings.kv),
    durableObjects: Object.fromEntries(objects),
    workflows: Object.fromEntries(
      Object.entries(bindings.workflows ?? {}).map(([binding, className]) => [binding, { name: className, className }]),
    ),
    bindings: worker.vars ?? {},
  };
}

const miniflare = new Miniflare({
  host: "127.0.0.1",
  port: config.port ?? 0,
  log: new Log(config.verbose ? LogLevel.DEBUG : LogLevel.WARN),
  cf: false,
  d1Persist: join(config.storage, "d1"),
  kvPersist: join(config.storage, "kv"),
  workflowsPersist: join(config.storage, "workflows"),
  durableObjectsPersist: join(config.storage, "do"),
  handleRuntimeStdio(stdout, stderr) {
    stdout.pipe(process.stderr);
    stderr.pipe(process.stderr);
  },
  workers: config.workers.map(workerOptions),
});

function say(message) {
  process.stdout.write(JSON.stringify(message) + "\n");
}

function childOf(parent) {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, "utf8");
  return children.trim().split(/\s+/).map(Number).filter(Boolean);
}

async function bodyOf(response) {
  const bytes = Buffer.from(await response.arrayBuffer());
  const text = bytes.toString("utf8");
  return Buffer.from(text, "utf8").equals(bytes) ? text : { base64: bytes.toString("base64") };
}

const COMMANDS = {
  async fetch({ worker, path, method = "GET", headers, body }) {
    const target = await miniflare.getWorker(worker);
    const response = await target.fetch(new URL(path, "http://worker"), {
      method,
      headers,
      body: body && typeof body === "object" ? Buffer.from(body.base64, "base64") : body,
      redirect: "manual",
    });
    return { status: response.status, body: await bodyOf(response) };
  },
  async scheduled({ worker, time, cron }) {
    const target = await miniflare.getWorker(worker);
    const result = await target.scheduled({ scheduledTime: time === undefined ? undefined : new Date(time), cron });
    return { outcome: result.outcome };
  },
};

async function stop(status) {
  await miniflare.dispose();
  process.exit(status);
}

const url = await miniflare.ready;
say({ ready: true, url: String(url), pid: childOf(process.pid)[0] });
process.on("SIGTERM", () => stop(0));
const lines = createInterface({ input: process.stdin });
lines.on("close", () => stop(0));
lines.on("line", async (line) => {
  const command = JSON.parse(line);
  try {
    say({ id: command.id, ...(await COMMANDS[command.do](command)) });
  } catch (error) {
    say({ id: command.id, error: String(error?.stack ?? error) });
  }
});
