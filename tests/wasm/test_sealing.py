"""Sealed values by WebCrypto: the bytes of SPEC.md, which ``tests/sealing`` proves of ``cryptography``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from browser import Browser
from pages import CONFORMANCE, in_worker, page
from pytest_pyodide.config import get_global_config

get_global_config().add_node_extra_globals(["crypto"])  # its Node runs scripts in a context without it
SPEC = (Path(__file__).resolve().parents[2] / "SPEC.md").read_text()
SECTION = SPEC.split("\n## 9. Sealed values\n")[1]
((SECRET, KEY_ID, TENANT),) = re.findall(
    r"the secret `([0-9a-f]{64})` has the key id `(\S+)`, and the tenant\s+is `(\S+)`", SECTION
)
ROWS = re.findall(
    r"^\| `(\S+)` \| `\S+` \| `([0-9a-f]{24})` \| (?:`([0-9a-f]+)`|nothing) \| `([0-9a-f]+)` \|", SECTION, re.M
)
(SEALED_BUNDLE,) = re.findall(r"^\| `([0-9a-f]+)` \|$", SECTION, re.M)
(BUNDLE,) = re.findall(r"^\| `exe_1` \| `([0-9a-f]+)` \|$", SPEC, re.M)
SETUP = f"""
import asyncio, gc, json, os
from alkaline_edge import Context, Runtime, workflow
from alkaline_edge.errors import StoreError
from alkaline_edge.host import Batch, Entry, Put
from alkaline_edge.sealing import Keyring, SealedHost, open_bundle, reseal, seal_bundle
from alkaline_edge.testing.conformance import format_results, run_conformance
from alkaline_hosts.memory import MemoryHost, MemoryStore
from alkaline_hosts.webcrypto import WebCrypto
from pyodide.code import run_js

KEYS = Keyring({KEY_ID!r}, {{{KEY_ID!r}: bytes.fromhex({SECRET!r}), "old": b"o" * 32}})
ONLY_OLD = Keyring("old", {{"old": b"o" * 32}})

def sealed(host, keys=KEYS):
    return SealedHost(host, keys=keys, tenant={TENANT!r}, cipher=WebCrypto())

class Made:
    def __init__(self):
        self.store = MemoryStore()
    async def open(self):
        return sealed(MemoryHost(self.store))
    async def destroy(self):
        pass

async def made():
    return Made()

async def refusal(awaitable):
    try:
        return f"opened: {{await awaitable}}"
    except StoreError as error:
        return error.detail.get("reason", str(error))

@workflow
async def flow(ctx: Context, n: int):
    first = await ctx.step("one", lambda: {{"n": n, "large": "x" * 200_000}})
    return [first["n"], await ctx.wait_for_signal("go")]
"""


@pytest.fixture(scope="module")
def pyodide(selenium_module_scope):
    """A Pyodide with the package loaded."""
    selenium_module_scope.set_script_timeout(300)
    selenium_module_scope.load_package(["alkaline-edge"])
    selenium_module_scope.run(SETUP)
    return selenium_module_scope


def asked(pyodide, source: str):
    """What a program, whose last line is a value, comes to."""
    *before, last = source.strip().splitlines()
    return json.loads(pyodide.run_async("\n".join([*before, f"json.dumps({last})"])))


@pytest.mark.parametrize("row", ROWS, ids=[place for place, *_ in ROWS])
def test_webcrypto_writes_and_opens_the_bytes_of_the_page(pyodide, row: tuple[str, ...]) -> None:
    """With the page's nonce for entropy the stored bytes are the page's: one format, whoever sealed."""
    place, nonce, plain, found = row
    source = f"""
inner = MemoryHost(entropy=lambda n: bytes.fromhex({nonce!r}))
host = sealed(inner)
await host.commit(Batch("0" * 16, (), (Put({place!r}, bytes.fromhex({plain!r})),)))
stored = inner.store.entries[{place!r}].value.hex()
inner.store.entries[{place!r}] = Entry({place!r}, bytes.fromhex({found!r}), "0" * 16)
[stored, (await host.get([{place!r}]))[0].value.hex()]
"""
    assert asked(pyodide, source) == [found, plain]


def test_webcrypto_writes_and_opens_the_bundle_of_the_page(pyodide) -> None:
    """A bundle that a server sealed opens in the page, and the other way round."""
    source = f"""
entropy = {{16: bytes(range(0x40, 0x50)), 12: bytes(range(0x50, 0x5C))}}.__getitem__
named = {{"tenant": {TENANT!r}, "cipher": WebCrypto()}}
made_here = await seal_bundle(bytes.fromhex({BUNDLE!r}), KEYS, entropy=entropy, **named)
[made_here.hex(), (await open_bundle(bytes.fromhex({SEALED_BUNDLE!r}), KEYS, **named)).hex()]
"""
    assert asked(pyodide, source) == [SEALED_BUNDLE, BUNDLE]


def test_a_host_that_webcrypto_seals_keeps_the_contract(pyodide) -> None:
    """The conformance suite, with every race, although each value crosses to JavaScript and back."""
    source = """
results = await run_conformance(made, gather=asyncio.gather)
[format_results(results), {r.case: r.outcome for r in results}]
"""
    text, outcomes = asked(pyodide, source)
    left = {case for case, outcome in outcomes.items() if outcome != "passed"}
    assert left == {
        "threads_run_functions", "checks_are_refused_where_they_cannot_hold", "a_closed_store_keeps_its_data",
        "a_commit_without_a_wait",
    }, text  # fmt: skip


def test_what_was_tampered_with_is_refused_by_its_place_alone(pyodide) -> None:
    """One bad value among good ones, moved, cut or changed: WebCrypto says that something failed, we say which."""
    source = """
host = sealed(inner := MemoryHost())
await host.commit(Batch("0" * 16, (), tuple(Put(f"r/{n}", b"%d" % n) for n in range(20))))
good, said = dict(inner.store.entries), []
for place, value in (("r/7", good["r/8"].value), ("r/7", good["r/7"].value[:-1]), ("r/7", b"7"),
                     ("r/7", good["r/7"].value[:-1] + bytes([good["r/7"].value[-1] ^ 1]))):
    inner.store.entries[place] = Entry(place, value, "0" * 16)
    try:
        await host.list("r/")
        said.append("opened")
    except StoreError as error:
        said.append([error.detail["place"], error.detail["reason"]])
    inner.store.entries[place] = good[place]
said + [len(await host.list("r/"))]
"""
    refused = ["r/7", "not authentic"]
    assert asked(pyodide, source) == [refused, refused, ["r/7", "plaintext"], refused, 20]


def test_a_run_goes_on_under_new_keys(pyodide) -> None:
    """Begun under one key, sealed anew under another, finished; the plain result is nowhere in the store."""
    source = """
store = MemoryStore()
async with Runtime(sealed(MemoryHost(store), ONLY_OLD), workflows=[flow]) as runtime:
    await (await runtime.start(flow, 7, id="exe_1")).settle()
swept = await reseal(sealed(MemoryHost(store)))
async with Runtime(sealed(MemoryHost(store)), workflows=[flow]) as runtime:
    await runtime.signal("exe_1", "go", "yes")
    result = await (await runtime.resume("exe_1")).result(timeout=20)
content = b"".join(entry.value for entry in store.entries.values())
[result, swept.seen == swept.written > 4, b"xxxxxxxxxx" in content, b"old" in content]
"""
    assert asked(pyodide, source) == [[7, "yes"], True, False, False]


def test_a_secret_may_be_a_key_that_no_script_can_read(pyodide) -> None:
    """A CryptoKey that is not extractable seals as its bytes would; one of the wrong kind is refused."""
    source = """
make = run_js("(bytes, kind, usage) => crypto.subtle.importKey('raw', bytes, kind, false, [usage])")
from pyodide.ffi import to_js
good, wrong = await make(to_js(b"o" * 32), "HKDF", "deriveKey"), await make(to_js(b"o" * 32), "AES-GCM", "encrypt")
host = sealed(inner := MemoryHost(), Keyring("old", {"old": good}))
batch = Batch("0" * 16, (), (Put("r/a", b"plain"),))
await host.commit(batch)
opened = (await sealed(inner, ONLY_OLD).get(["r/a"]))[0].value.decode()
[opened, await refusal(sealed(MemoryHost(), Keyring("old", {"old": wrong})).commit(batch))]
"""
    opened, said = asked(pyodide, source)
    assert opened == "plain"
    assert said.startswith("sealing failed")
    assert said.endswith("nothing was written")


def test_a_thousand_values_leave_nothing_behind(pyodide) -> None:
    """No reference across the border is kept for a value that was sealed, opened or refused."""
    source = """
host = sealed(inner := MemoryHost())
async def work(times):
    for n in range(times):
        await host.commit(Batch(f"{n:016x}", (), tuple(Put(f"r/{m}", b"x" * 50) for m in range(20))))
        await host.list("r/")
        broken = inner.store.entries["r/5"]
        inner.store.entries["r/5"] = Entry("r/5", broken.value[:-1], broken.version)
        await refusal(host.list("r/"))
await work(3)
gc.collect()
None
"""
    asked(pyodide, source)
    keys = pyodide.get_num_hiwire_keys()
    pyodide.run_js("pyodide._module.enable_pyproxy_allocation_tracing()")
    asked(pyodide, "await work(50)\ngc.collect()\nNone")
    assert pyodide.get_num_hiwire_keys() <= keys
    assert pyodide.get_num_proxies() == 0


IN_A_BROWSER = CONFORMANCE.replace(
    "return IndexedDBHost(self.name)",
    "return SealedHost(IndexedDBHost(self.name), keys=KEYS, tenant='page', cipher=WebCrypto())",
)


@pytest.mark.parametrize("place", ["page", "worker"])
def test_indexeddb_behind_the_seal_keeps_the_host_contract(chromium: Browser, place: str) -> None:
    """Sealing is over before IndexedDB's transaction begins, and opening begins when it has ended."""
    assert "SealedHost" in IN_A_BROWSER
    source = (
        "from alkaline_edge.sealing import Keyring, SealedHost\nfrom alkaline_hosts.webcrypto import WebCrypto\n"
        f"KEYS = Keyring('k', {{'k': b's' * 32}})\n{IN_A_BROWSER}"
    )
    tab = chromium.tab()
    found = in_worker(tab, source) if place == "worker" else page(tab, source)
    left = {case for case, outcome in found["outcomes"].items() if outcome != "passed"}
    assert left == {
        "threads_run_functions", "checks_are_refused_where_they_cannot_hold", "a_commit_without_a_wait",
    }, found["text"]  # fmt: skip
