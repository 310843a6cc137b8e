"""CallbackHost over JavaScript functions: a page that keeps the storage itself can host the kernel."""

from __future__ import annotations

import json

import pytest

# A store as a page would write it: a Map, three functions, promises, plain objects and Uint8Arrays.
STORE = """
() => {
  const entries = new Map();
  const found = (key) => (entries.has(key) ? { key, ...entries.get(key) } : undefined);
  return {
    get: async (keys) => keys.map((key) => found(key) ?? null),
    list: (prefix, after, limit) =>
      [...entries.keys()].filter((key) => key.startsWith(prefix) && key > after).sort().slice(0, limit).map(found),
    commit: async ({ id, checks, puts, deletes }) => {
      const conflict = checks.filter(([key, version]) => (entries.get(key)?.version ?? null) !== (version ?? null));
      if (conflict.length) return { conflict: conflict.map(([key]) => key) };
      for (const [key, value] of puts) entries.set(key, { value, version: id });
      for (const key of deletes) entries.delete(key);
      return { committed: true };
    },
  };
}
"""
SETUP = f"""
import asyncio, gc, json
from alkaline_edge import Runtime, workflow
from alkaline_edge.codec import Codec
from alkaline_edge.host import Batch, Capabilities, Put
from alkaline_edge.testing.conformance import format_results, run_conformance
from alkaline_hosts.callbacks import CallbackHost
from alkaline_hosts.javascript import convert
from pyodide.code import run_js

make_store = run_js({STORE!r})
can = Capabilities("a page's Map", durability="weak")

class Made:
    def __init__(self):
        self.store = make_store()
    async def open(self):
        store = self.store
        return CallbackHost(get=store.get, list=store.list, commit=store.commit, capabilities=can)
    async def destroy(self):
        self.store = None

async def made():
    return Made()
"""


@pytest.fixture(scope="module")
def pyodide(selenium_module_scope):
    """A Pyodide with the package loaded and a store in JavaScript."""
    selenium_module_scope.set_script_timeout(300)
    selenium_module_scope.load_package(["alkaline-edge"])
    selenium_module_scope.run(SETUP)
    return selenium_module_scope


def test_javascript_functions_keep_the_host_contract(pyodide) -> None:
    """The conformance suite passes on a store of three JavaScript functions, promises and all."""
    found = json.loads(
        pyodide.run_async(
            "results = await run_conformance(made, gather=asyncio.gather)\n"
            "json.dumps([format_results(results), {r.case: r.outcome for r in results}])"
        )
    )
    left = {case for case, outcome in found[1].items() if outcome != "passed"}
    assert left == {
        "threads_run_functions", "owners_are_known", "checks_are_refused_where_they_cannot_hold",
        "a_commit_without_a_wait",
    }, found[0]  # fmt: skip


def test_a_workflow_runs_on_javascript_storage_and_takes_javascript_values(pyodide) -> None:
    """A step may return what JavaScript gave it; the next process replays it from the same store."""
    source = """
calls = []
make = run_js("(n) => ({ n, when: new Date(0), parts: [new Uint8Array([n]), 7n, new Map([['k', null]])] })")
def fetch(n):
    calls.append(n)
    return make(n)

@workflow
async def flow(ctx):
    first = await ctx.step("fetch", fetch, 1)
    await ctx.wait_for_signal("go")
    return [first, await ctx.step("fetch", fetch, 2)]

store = Made()
codec = Codec(convert=convert)
async with Runtime(await store.open(), workflows=[flow], codec=codec) as runtime:
    await (await runtime.start("flow", id="a")).settle()
async with Runtime(await store.open(), workflows=[flow], codec=codec) as runtime:
    await runtime.signal("a", "go")
    result = await (await runtime.resume("a")).result()
repr([result, calls])
"""
    values = "[b'\\x01', 7, {'k': None}]"
    epoch = "datetime.datetime(1970, 1, 1, 0, 0, tzinfo=datetime.timezone.utc)"
    said = pyodide.run_async(source)
    assert f"{{'n': 1, 'parts': {values}, 'when': {epoch}}}" in said
    assert said.endswith("[1, 2]]")


def test_ten_thousand_commits_through_javascript_leak_nothing(pyodide) -> None:
    """As many references across the border after 10,000 commits and reads as after the first hundred."""
    pyodide.run_async(
        "host = await Made().open()\n"
        "async def work(times):\n"
        "    for number in range(times):\n"
        "        await host.commit(Batch(f'{number:016x}', (), (Put(f'k{number % 20}', b'x' * 100),)))\n"
        "        if not number % 10:\n"
        "            await host.get(['k0', 'none'])\n"
        "            await host.list('k', limit=5)\n"
        "    gc.collect()\n"
        "await work(100)"
    )
    pyodide.run_js("pyodide._module.enable_pyproxy_allocation_tracing()")
    before = pyodide.get_num_hiwire_keys(), pyodide.get_num_proxies()
    pyodide.run_async("await work(10_000)")
    pyodide.run_async("await asyncio.sleep(0.05)\ngc.collect()")
    assert (pyodide.get_num_hiwire_keys(), pyodide.get_num_proxies()) == before
