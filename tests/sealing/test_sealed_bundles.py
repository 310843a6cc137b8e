"""A bundle under a seal: what leaves the house in a file, and is never taken for a plain one."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alkaline_edge import Context, InvalidInput, Runtime, workflow
from alkaline_edge.bundle import SEALED
from alkaline_edge.sealing import Keyring, open_bundle, seal_bundle
from alkaline_hosts.memory import MemoryHost
from tests.sealing.support import KEYS, NEW, OLD, ONLY_OLD, TENANT, cipher
from tests.support import drive


@workflow
async def flow(ctx: Context) -> Any:
    return await ctx.step("say", lambda: "the result of a step")


async def exported() -> bytes:
    """The bundle of a finished run."""
    async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
        await (await runtime.start(flow, id="exe_1")).result()
        return await runtime.export("exe_1")


async def seal(bundle: bytes, keys: Keyring = KEYS, tenant: str = TENANT) -> bytes:
    return await seal_bundle(bundle, keys, tenant=tenant, entropy=os.urandom, cipher=cipher())


async def opened(data: bytes, keys: Keyring = KEYS, tenant: str = TENANT) -> bytes:
    return await open_bundle(data, keys, tenant=tenant, cipher=cipher())


BUNDLE: bytes = drive(exported)
SEALED_BUNDLE: bytes = drive(lambda: seal(BUNDLE))


def test_a_bundle_is_sealed_opened_and_imported() -> None:
    """Also with a key that is not current any more. Two seals of one bundle have nothing in common."""

    async def test() -> None:
        assert b"the result of a step" in BUNDLE
        assert b"the result of a step" not in SEALED_BUNDLE
        assert b"exe_1" not in SEALED_BUNDLE
        again = await seal(BUNDLE)
        assert again[len(SEALED) + 5 :][:44] != SEALED_BUNDLE[len(SEALED) + 5 :][:44]
        assert await opened(await seal(BUNDLE, ONLY_OLD)) == BUNDLE
        async with Runtime(MemoryHost(), workflows=[flow]) as runtime:
            await runtime.import_(await opened(SEALED_BUNDLE))
            assert (await runtime.get_execution("exe_1")).result == "the result of a step"

    drive(test)


def test_an_import_of_a_sealed_bundle_says_that_it_is_sealed() -> None:
    """And writes nothing."""

    async def test() -> None:
        host = MemoryHost()
        async with Runtime(host, workflows=[flow]) as runtime:
            with pytest.raises(InvalidInput, match="this bundle is sealed: open it with its key first"):
                await runtime.import_(SEALED_BUNDLE)
        assert host.store.entries == {}

    drive(test)


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0), st.integers(0, 7))
def test_a_bit_that_is_flipped_anywhere_is_refused(at: int, bit: int) -> None:
    """In the header, the salt, the nonce, the content and the tag."""
    damaged = bytearray(SEALED_BUNDLE)
    damaged[at % len(damaged)] ^= 1 << bit
    with pytest.raises(InvalidInput):
        drive(lambda: opened(bytes(damaged)))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SEALED_BUNDLE) - 1))
def test_a_sealed_bundle_that_was_cut_anywhere_is_refused(length: int) -> None:
    """As one that was cut short, or as nothing of ours."""
    with pytest.raises(InvalidInput, match=r"cut short|does not open|not a sealed bundle"):
        drive(lambda: opened(SEALED_BUNDLE[:length]))


@pytest.mark.parametrize(
    ("data", "keys", "tenant", "says"),
    [
        (BUNDLE, KEYS, TENANT, "a bundle that is not sealed: import it as it is, if you trust"),
        (b"", KEYS, TENANT, "not a sealed bundle"),
        (b"\xc1ae\x01" + SEALED_BUNDLE[len(SEALED) :], KEYS, TENANT, "not a sealed bundle"),
        (SEALED + b"\x02" + SEALED_BUNDLE[len(SEALED) + 1 :], KEYS, TENANT, "format 2, and this alkaline_edge reads 1"),
        (SEALED_BUNDLE, ONLY_OLD, TENANT, "the key 'new', and the keyring holds old"),
        (SEALED_BUNDLE, Keyring("new", {"new": OLD}), TENANT, "does not open with the key 'new'"),
        (SEALED_BUNDLE, KEYS, "another", "does not open with the key 'new'"),
        (SEALED_BUNDLE, KEYS, "", "tenant is a text"),
    ],
)
def test_what_can_not_be_opened_is_refused_by_a_sentence(data: bytes, keys: Keyring, tenant: str, says: str) -> None:
    """Which says what to do."""
    with pytest.raises(InvalidInput, match=says):
        drive(lambda: opened(data, keys, tenant))


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "not a bundle"), (b"\x80", "not a bundle"), (SEALED_BUNDLE, "sealed already")],
)
def test_only_a_bundle_is_sealed(data: bytes, says: str) -> None:
    """Neither foreign bytes nor a sealed one."""
    with pytest.raises(InvalidInput, match=says):
        drive(lambda: seal(data))


def test_a_value_and_a_bundle_do_not_open_as_each_other() -> None:
    """Their keys are derived for different ends, so that not even the bytes behind the headers could be exchanged."""

    async def test() -> None:
        derived: list[Any] = []

        class Noting:
            inner = cipher()

            async def derive(self, wanted: Any) -> Any:
                derived.extend(wanted)
                return await self.inner.derive(wanted)

            async def encrypt(self, jobs: Any) -> Any:
                return await self.inner.encrypt(jobs)

            decrypt: Any = encrypt

        await seal_bundle(BUNDLE, KEYS, tenant=TENANT, entropy=os.urandom, cipher=Noting())
        ((secret, salt, info),) = derived
        assert (secret, len(salt)) == (NEW, 16)
        assert info.startswith(b"alkaline_edge sealed bundle\0")

    drive(test)
