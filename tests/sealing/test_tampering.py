"""Who can write to a sealed store and has no key can make nothing be believed: it is refused, and nothing is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alkaline_edge import Context, Runtime, StoreError, workflow
from alkaline_edge.host import Batch, Check, Entry, Put
from alkaline_edge.sealing import Keyring, SealedHost
from alkaline_hosts.memory import MemoryHost, MemoryStore
from tests.sealing.support import KEYS, OLD, ONLY_OLD, TENANT, sealed
from tests.support import drive

calls: list[int] = []


async def work(n: int) -> str:
    calls.append(n)
    return f"the result of step {n}"


@workflow(name="tampered")
async def flow(ctx: Context, size: int) -> Any:
    done = [await ctx.step("work", work, n) for n in range(4)]
    large = await ctx.step("large", lambda: "x" * size)
    return [*done, len(large), await ctx.wait_for_signal("go")]


async def suspended() -> MemoryStore:
    """A sealed store with a suspended run, a large value, an unread signal and all that belongs to it."""
    calls.clear()
    host = MemoryHost()
    async with Runtime(sealed(host), workflows=[flow]) as runtime:
        await (await runtime.start(flow, 200_000, id="exe_1", attributes={"who": "ada lovelace"})).settle()
    other = Runtime(sealed(MemoryHost(host.store)), workflows=[])
    await other.signal("exe_1", "go", "send it now", dedupe="k")
    return host.store


def replaced(store: MemoryStore, key: str, value: bytes) -> Entry:
    """Write past the seal; what was there."""
    before = store.entries[key]
    store.entries[key] = Entry(key, value, before.version)
    return before


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    """One that each test leaves as it was."""
    made: MemoryStore = drive(suspended)
    return made


def test_the_store_holds_every_kind_of_key(store: MemoryStore) -> None:
    """The properties below are about records, histories, blobs, inboxes, markers and indexes."""
    assert {place.partition("/")[0] for place in store.entries} == {"r", "h", "b", "i", "d", "x"}


def test_no_value_tells_what_is_in_it(store: MemoryStore) -> None:
    """Neither results nor payloads nor names stand in what is stored."""
    content = b"".join(entry.value for entry in store.entries.values())
    for secret in (b"the result of step", b"xxxxxxxx", b"send it now", b"tampered", b"ada lovelace"):
        assert secret not in content


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.integers(min_value=0), at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_bit_that_is_flipped_anywhere_is_refused_and_nothing_is_lost(
    store: MemoryStore, which: int, at: int, bit: int
) -> None:
    """By get and by list, with the place and not the value; what was there opens as soon as it is back."""

    async def test() -> None:
        places = sorted(store.entries)
        place = places[which % len(places)]
        host = sealed(MemoryHost(store))
        plain = await host.get([place])
        damaged = bytearray(store.entries[place].value)
        damaged[at % len(damaged)] ^= 1 << bit
        await refusal_of(store, place, bytes(damaged))
        assert await host.get([place]) == plain

    drive(test)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.integers(min_value=0), at=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_run_with_a_flipped_bit_does_nothing_and_goes_on_when_it_is_mended(which: int, at: int, bit: int) -> None:
    """No step runs again and no byte of what was recorded is moved; with the bit back the run comes to its result."""

    async def test() -> None:
        store = await suspended()
        places = [key for key in sorted(store.entries) if key[0] in "rhib"]
        place = places[which % len(places)]
        damaged = bytearray(store.entries[place].value)
        damaged[at % len(damaged)] ^= 1 << bit
        before = replaced(store, place, bytes(damaged))
        done, kept = list(calls), dict(store.entries)
        async with Runtime(sealed(MemoryHost(store)), workflows=[flow]) as runtime:
            with pytest.raises(StoreError) as refused:
                await (await runtime.resume("exe_1")).result(timeout=5)
            assert place in str(refused.value)
        assert calls == done
        if place[0] == "i":  # an inbox is read by the owner: the run was taken up, and handed back
            kept = {key: entry for key, entry in kept.items() if key[0] not in "rx"}
            assert {key: store.entries[key] for key in kept} == kept
        else:
            assert store.entries == kept
        store.entries[place] = before
        async with Runtime(sealed(MemoryHost(store)), workflows=[flow]) as runtime:
            run = await runtime.resume("exe_1")
            assert (await run.result(timeout=5))[-1] == "send it now"
        assert calls == done

    drive(test)


async def refusal_of(
    store: MemoryStore, place: str, value: bytes, keys: Keyring = KEYS, tenant: str = TENANT
) -> StoreError:
    """What reading ``value`` at ``place`` says, by every way to read it. It names the place, and writes nothing."""
    before = replaced(store, place, value)
    kept = dict(store.entries)
    host = sealed(MemoryHost(store), keys, tenant)
    said = []
    try:
        for read in (host.get([place]), host.get(sorted(store.entries, reverse=place[0] > "m")), host.list(place)):
            with pytest.raises(StoreError) as refused:
                await read
            said.append(refused.value)
        with pytest.raises(StoreError):
            await host.list("")
        assert store.entries == kept
    finally:
        store.entries[place] = before
    assert said[0].code == "ERR_STORE"
    assert said[0].detail["place"] == place
    assert str(said[0]).startswith(f"the value at {place!r} ")
    assert str(said[2]) == str(said[0])
    return said[0]


def moved(store: MemoryStore, value: bytes) -> bytes:
    return store.entries["x/w/tampered/exe_1"].value


Tamper = Callable[[MemoryStore, bytes], bytes]
TAMPERED: dict[str, tuple[Tamper, str, str]] = {
    "plain": (lambda _, value: b"\x80", "plaintext", "is not sealed, and this store is"),
    "empty": (lambda _, value: b"", "plaintext", "seal_store"),
    "a byte": (lambda _, value: b"\xc1", "plaintext", "is not sealed"),
    "cut to its mark": (lambda _, value: value[:3], "truncated", "cut short"),
    "cut to its version": (lambda _, value: value[:4], "truncated", "cut short"),
    "cut before its nonce": (lambda _, value: value[:8], "truncated", "cut short"),
    "cut before its tag": (lambda _, value: value[:35], "truncated", "cut short"),
    "cut to a tag": (lambda _, value: value[:36], "not authentic", "was damaged, moved"),
    "cut by a byte": (lambda _, value: value[:-1], "not authentic", "was damaged, moved"),
    "with a byte more": (lambda _, value: value + b"\x00", "not authentic", "was damaged, moved"),
    "of a newer version": (lambda _, value: b"\xc1ae\x02" + value[4:], "version", "format 2, and this .* reads 1"),
    "of another key": (
        lambda _, value: value.replace(b"\x03new", b"\x03old", 1),
        "not authentic",
        "the key 'old' here",
    ),
    "of an unknown key": (
        lambda _, value: value.replace(b"\x03new", b"\x04newe", 1),
        "unknown key",
        "the key 'newe', and the keyring holds new, old: add that key",
    ),
    "of a key without a name": (
        lambda _, value: value.replace(b"\x03new", b"\x03n\x00\xff", 1),
        "unknown key",
        r"the key 'n\?\?'",
    ),
    "moved": (moved, "not authentic", "moved from another place"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_each_kind_of_tampering_has_a_sentence_of_its_own(store: MemoryStore, how: str) -> None:
    """Which says what happened and what to do; a program finds the place and a word in ``detail``."""
    tamper, reason, says = TAMPERED[how]

    async def test() -> None:
        error = await refusal_of(store, "r/exe_1", tamper(store, store.entries["r/exe_1"].value))
        assert error.detail["reason"] == reason
        assert re.search(says, str(error))

    drive(test)


def test_two_commits_of_one_history_can_not_be_swapped(store: MemoryStore) -> None:
    """They share a derived key, and each is bound to its own place."""

    async def test() -> None:
        one, other = [key for key in sorted(store.entries) if key[0] == "h"][:2]
        for place, value in ((one, store.entries[other].value), (other, store.entries[one].value)):
            assert (await refusal_of(store, place, value)).detail["reason"] == "not authentic"

    drive(test)


@pytest.mark.parametrize(
    ("keys", "tenant", "reason"),
    [
        (ONLY_OLD, TENANT, "unknown key"),
        (KEYS, "another", "not authentic"),
        (KEYS, TENANT + " ", "not authentic"),
        (Keyring("new", {"new": OLD}), TENANT, "not authentic"),
    ],
    ids=["without the key", "another tenant", "almost the tenant", "another secret"],
)
def test_what_was_sealed_for_others_is_refused(store: MemoryStore, keys: Keyring, tenant: str, reason: str) -> None:
    """By key id where that says it, otherwise because it does not open."""

    async def test() -> None:
        value = store.entries["r/exe_1"].value
        assert (await refusal_of(store, "r/exe_1", value, keys, tenant)).detail["reason"] == reason

    drive(test)


def test_the_chain_is_verified_behind_the_seal() -> None:
    """Sealed commits that were removed, in the middle or at the end, are missed; what is left was sealed all right."""

    async def test() -> None:
        for gone, says in ((1, "has a gap"), (-1, "lost or rolled back the end")):
            store = await suspended()
            history = [key for key in sorted(store.entries) if key[0] == "h"]
            del store.entries[history[gone]]
            store.keys.remove(history[gone])
            done = list(calls)
            async with Runtime(sealed(MemoryHost(store)), workflows=[flow]) as runtime:
                with pytest.raises(StoreError, match=says):
                    await (await runtime.resume("exe_1")).result(timeout=5)
            assert calls == done

    drive(test)


class Failing:
    """A cipher whose platform fails in the middle of its work."""

    async def derive(self, wanted: Any) -> list[Any]:
        return [None for _ in wanted]

    async def encrypt(self, jobs: Any) -> list[bytes]:
        raise RuntimeError("the value is secret")

    decrypt: Any = encrypt


def test_a_cipher_that_fails_ends_the_operation_before_anything_is_written(store: MemoryStore) -> None:
    """As a refusal, not as a lost answer: nothing reached the store. What the platform said is not repeated."""

    async def test() -> None:
        kept = dict(store.entries)
        host = SealedHost(MemoryHost(store), keys=KEYS, tenant=TENANT, cipher=Failing())
        batch = Batch("0" * 16, (Check("r/new", None),), (Put("r/new", b"1"),), ("r/exe_1",))
        for work in (host.commit(batch), host.get(["r/exe_1"]), host.list("r/")):
            with pytest.raises(StoreError, match="nothing was") as refused:
                await work
            assert type(refused.value) is StoreError
            assert "secret" not in str(refused.value)
        assert store.entries == kept

    drive(test)
