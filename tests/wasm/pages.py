"""Python that tests run inside a page or a worker, and the way to a worker."""

from __future__ import annotations

import json
from typing import Any

from browser import Tab, wrapped

PRELUDE = """
import asyncio, os, time
import js
from pyodide.code import run_js
from alkaline_edge.errors import *
from alkaline_edge.host import *
from alkaline_hosts.indexeddb import IndexedDBHost, delete_store

def new_id():
    return os.urandom(8).hex()

def batch(*puts, checks=(), deletes=()):
    return Batch(new_id(), tuple(Check(*c) for c in checks), tuple(Put(*p) for p in puts), tuple(deletes))

async def outcome(awaitable):
    # What a commit or a read said, as text that JSON can carry.
    try:
        value = await awaitable
    except AlkalineError as error:
        return f"{type(error).__name__} {error.detail.get('reason', '')}".strip()
    return "Conflict" if isinstance(value, Conflict) else type(value).__name__
"""

CONFORMANCE = """
from alkaline_edge.testing.conformance import format_results, run_conformance

class Made:
    count = 0
    def __init__(self):
        Made.count += 1
        self.name = f"conformance {Made.count}"
    async def open(self):
        return IndexedDBHost(self.name)
    async def destroy(self):
        await delete_store(self.name)

async def made():
    return Made()

results = await run_conformance(made, gather=asyncio.gather)
{"text": format_results(results), "outcomes": {result.case: result.outcome for result in results}}
"""

WORKER = """
import { loadPyodide } from "ORIGIN/pyodide.mjs";
const ready = (async () => {
  self.pyodide = await loadPyodide({ indexURL: "ORIGIN/" });
  await pyodide.loadPackage("alkaline-edge", { messageCallback: () => {} });
})();
self.onmessage = async (event) => {
  try {
    await ready;
    self.postMessage(["ok", await pyodide.runPythonAsync(event.data)]);
  } catch (error) {
    self.postMessage(["failed", `${error?.stack ?? error}`]);
  }
};
"""


def page(tab: Tab, source: str = "None") -> Any:
    """Load Pyodide and the prelude into a tab, then run ``source``."""
    tab.load()
    return tab.python(PRELUDE + source)


def in_worker(tab: Tab, source: str) -> Any:
    """Run ``source`` behind the prelude in a new Web Worker of the tab; gives its last expression."""
    code = wrapped(PRELUDE + source)
    return json.loads(
        tab.js(
            f"const script = {json.dumps(WORKER)}.replaceAll('ORIGIN', location.origin);"
            "const address = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));"
            "const worker = new Worker(address, { type: 'module' });"
            "const [kind, value] = await new Promise((done, failed) => {"
            " worker.onerror = (event) => failed(event.message); worker.onmessage = (event) => done(event.data);"
            f" worker.postMessage({json.dumps(code)}); }});"
            "worker.terminate(); if (kind !== 'ok') throw new Error(value); return value;"
        )
    )
