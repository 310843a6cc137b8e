"""SPEC.md's section 9: an independent reader opens its vectors, and the package writes and opens the same bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge.bundle import decode
from alkaline_edge.codec import Codec
from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.host import Batch, Entry, Put
from alkaline_edge.sealing import Derivation, Keyring, SealedHost, open_bundle, seal_bundle, sealer
from alkaline_edge.sealing.layout import MAX_KEY_ID, OVERHEAD, scope_of
from alkaline_edge.sealing.sealer import Sealer
from alkaline_hosts.memory import MemoryHost
from tests.sealing.support import INSTALLED, KEYS, StandIn, hkdf, sealed
from tests.support import drive

SPEC = (Path(__file__).parents[2] / "SPEC.md").read_text()
SECTION = SPEC.split("\n## 9. Sealed values\n")[1]
((SECRET, KEY_ID, TENANT),) = re.findall(
    r"the secret `([0-9a-f]{64})` has the key id `(\S+)`, and the tenant\s+is `(\S+)`", SECTION
)
ROWS = re.findall(
    r"^\| `(\S+)` \| `(\S+)` \| `([0-9a-f]{24})` \| (?:`([0-9a-f]+)`|nothing) \| `([0-9a-f]+)` \| `([0-9a-f]{64})` \|$",
    SECTION,
    re.M,
)
((SEALED_BUNDLE),) = re.findall(r"^\| `([0-9a-f]+)` \|$", SECTION, re.M)
((BUNDLE),) = re.findall(r"^\| `exe_1` \| `([0-9a-f]+)` \|$", SPEC, re.M)
KEYRING = Keyring(KEY_ID, {KEY_ID: bytes.fromhex(SECRET)})
real = pytest.mark.skipif(not INSTALLED, reason="the package cryptography is not installed")


def test_there_are_vectors() -> None:
    """The page and the patterns of this test fit: a commit, an index, an empty value, a bundle."""
    assert [place for place, *_ in ROWS] == ["h/0123456789ab/a1", "x/s/suspended/research/exe_1", "m/store"]
    assert ROWS[0][3] in SPEC.split("\n## 9.")[0]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_keys_and_scopes_are_those_of_the_page(row: tuple[str, ...]) -> None:
    """HKDF as RFC 5869 writes it gives the page's AES key, with the scope that the page's rule gives."""
    place, scope, *_, key = row
    assert scope_of(place) == scope
    assert hkdf(bytes.fromhex(SECRET), b"", f"alkaline_edge sealed value\0{TENANT}\0{scope}".encode()).hex() == key


@real
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_an_independent_reader_opens_the_values(row: tuple[str, ...]) -> None:
    """Section 9 by the letter, with an AES-GCM and nothing of alkaline_edge."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    place, _, nonce, plain, found, key = row
    data = bytes.fromhex(found)
    assert (data[:3], data[3], data[4]) == (b"\xc1ae", 1, len(KEY_ID))
    end = 5 + data[4]
    assert data[5:end] == KEY_ID.encode()
    assert data[end : end + 12].hex() == nonce
    bound = data[:end] + TENANT.encode() + b"\0" + place.encode()
    assert AESGCM(bytes.fromhex(key)).decrypt(data[end : end + 12], data[end + 12 :], bound).hex() == plain


@real
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_package_writes_and_opens_these_bytes(row: tuple[str, ...]) -> None:
    """With the page's nonce for entropy a commit stores the page's bytes, and they are read back."""
    place, _, nonce, plain, found, _ = row

    async def test() -> None:
        inner = MemoryHost(entropy=lambda n: bytes.fromhex(nonce))
        host = SealedHost(inner, keys=KEYRING, tenant=TENANT)
        await host.commit(Batch("0" * 16, (), (Put(place, bytes.fromhex(plain)),)))
        assert inner.store.entries[place].value.hex() == found
        assert await host.get([place]) == [Entry(place, bytes.fromhex(plain), "0" * 16)]

    drive(test)


@real
def test_the_page_s_sealed_bundle_is_written_and_opened() -> None:
    """The sealed bundle of section 9 is the bundle of section 8."""

    async def test() -> None:
        entropy = {16: bytes(range(0x40, 0x50)), 12: bytes(range(0x50, 0x5C))}
        made = await seal_bundle(bytes.fromhex(BUNDLE), KEYRING, tenant=TENANT, entropy=entropy.__getitem__)
        assert made.hex() == SEALED_BUNDLE
        opened = await open_bundle(bytes.fromhex(SEALED_BUNDLE), KEYRING, tenant=TENANT)
        assert opened.hex() == BUNDLE
        assert decode(opened, Codec())[0].id == "exe_1"

    drive(test)


@real
def test_an_independent_reader_opens_the_bundle() -> None:
    """Section 9 by the letter."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    data = bytes.fromhex(SEALED_BUNDLE)
    name = b"\xc1alkaline_edge sealed bundle"
    assert (data[: len(name)], data[len(name)]) == (name, 1)
    end = len(name) + 2 + data[len(name) + 1] + 16
    key = hkdf(bytes.fromhex(SECRET), data[end - 16 : end], b"alkaline_edge sealed bundle\0" + TENANT.encode())
    opened = AESGCM(key).decrypt(data[end : end + 12], data[end + 12 :], data[:end] + TENANT.encode())
    assert opened.hex() == BUNDLE


def test_the_scope_of_every_kind_of_key() -> None:
    """What belongs to a run's id shares a key, what belongs to its random id another; nothing is without a scope."""
    of_id = ["r/exe_1", "i/exe_1/a1", "t/0000000000001/exe_1", "x/s/running/w/exe_1", "x/w/w/exe_1", "x/a/n=s:v/exe_1"]
    assert {scope_of(key) for key in of_id} == {"exe_1"}
    of_run = ["h/0123456789ab/a1", "s/0123456789ab/a1", "b/0123456789ab/ff/a0", "d/0123456789ab/ff", "m/0123456789ab"]
    assert {scope_of(key) for key in [*of_run, "u/0123456789ab/e", "g/0123456789ab"]} == {"0123456789ab"}
    assert scope_of("h/0123456789ab-1/a1") == "0123456789ab-1"
    assert [scope_of(key) for key in ("one", "one/", "m/store", "x/one")] == ["one", "one/", "store", "one"]


def test_every_value_has_a_nonce_of_its_own_from_the_hosts_entropy() -> None:
    """The same value at the same place twice, and two values of one batch, never share a nonce."""

    async def test() -> None:
        host = sealed(inner := MemoryHost())
        seen = set()
        for n in range(50):
            await host.commit(Batch(f"{n:016x}", (), (Put("r/a", b"same"), Put("r/b", b"same"))))
            seen |= {inner.store.entries[key].value[8:20] for key in ("r/a", "r/b")}
        assert len(seen) == 100

    drive(test)


def test_a_value_is_sealed_as_it_was_when_it_was_given() -> None:
    """Whoever gave a buffer may fill it anew while its key is derived: what was to be written is written."""
    buffer = bytearray(b"as it was given")

    class Slow(StandIn):
        async def derive(self, wanted: Any) -> list[Any]:
            buffer[:] = b"something else!"
            return await super().derive(wanted)

    async def test() -> None:
        sealer = Sealer(KEYS, TENANT, MemoryHost().entropy, Slow())
        (put,) = await sealer.seal([Put("r/a", buffer)])
        (opened,) = await sealer.open([Entry("r/a", put.value, "v")])
        assert opened.value == b"as it was given"

    drive(test)


def test_a_source_of_entropy_that_gives_too_little_seals_nothing() -> None:
    """A value behind a short nonce would be lost for good."""

    async def test() -> None:
        for given in (b"", bytes(11), bytes(13), bytearray(12)):
            inner = MemoryHost(entropy=lambda n, given=given: given)  # type: ignore[misc]  # is the point
            with pytest.raises(StoreError, match="did not give 12 bytes"):
                await sealed(inner).commit(Batch("0" * 16, (), (Put("r/a", b"1"),)))
            assert inner.store.entries == {}

    drive(test)


def test_keys_are_derived_once_for_a_run() -> None:
    """A derived key is kept; more runs than are kept at once still open."""

    async def test() -> None:
        kept = StandIn()
        host = SealedHost(MemoryHost(), keys=KEYS, tenant="t", cipher=kept)
        for n in range(30):
            await host.commit(Batch(f"{n:016x}", (), (Put(f"h/run/a{n}", b"x"), Put(f"x/s/running/w/{n % 3}", b""))))
        assert await host.list("h/run/") != []
        assert len(kept.derived) == 4
        many = tuple(Put(f"r/{n}", b"%d" % n) for n in range(2_500))
        await host.commit(Batch("f" * 16, (), many))
        assert [entry.value for entry in await host.get([f"r/{n}" for n in range(2_500)]) if entry] == [
            put.value for put in many
        ]

    drive(test)


def test_so_many_derived_keys_are_kept_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that seals for many runs stays as large as one that seals for some; each value opens all the same."""
    monkeypatch.setattr(sealer, "MOST_KEYS", 10)

    async def test() -> None:
        one = Sealer(KEYS, TENANT, MemoryHost().entropy, StandIn())
        entries = []
        for n in range(45):
            (put,) = await one.seal([Put(f"r/{n}", b"%d" % n)])
            entries.append(Entry(put.key, put.value, "v"))
            assert len(one._derived) <= 10
        assert [entry.value for entry in await one.open(entries)] == [b"%d" % n for n in range(45)]

    drive(test)


def test_many_readers_at_once_share_the_keys_that_are_kept() -> None:
    """Also while one of them makes room for more than are kept, in the middle of what another one is doing."""

    async def test() -> None:
        class Slow(StandIn):
            async def derive(self, wanted: Sequence[Derivation]) -> list[Any]:
                await asyncio.sleep(0)
                return await super().derive(wanted)

        host = SealedHost(MemoryHost(), keys=KEYS, tenant="t", cipher=Slow())
        places = [f"r/{n}" for n in range(2_000)]
        await host.commit(Batch("0" * 16, (), tuple(Put(place, place.encode()) for place in places)))
        pages = [places[at : at + 600] for at in range(0, 2_000, 100)]
        found = await asyncio.gather(*(host.get(page) for page in pages))
        assert [[entry and entry.value.decode() for entry in page] for page in found] == pages

    drive(test)


def test_the_overhead_is_what_the_room_is_reckoned_with() -> None:
    """The longest key id makes the largest header, and that is what capabilities leave room for."""

    async def test() -> None:
        keys = Keyring("k" * MAX_KEY_ID, {"k" * MAX_KEY_ID: bytes(31) + b"1"})
        inner = MemoryHost()
        await sealed(inner, keys).commit(Batch("0" * 16, (), (Put("r/a", b"12345"),)))
        assert len(inner.store.entries["r/a"].value) == 5 + OVERHEAD

    drive(test)


def test_a_secret_is_never_shown() -> None:
    """Neither by a keyring nor by a refusal to make one."""
    secret = b"not to be seen by anybody at all"
    assert "seen" not in repr(Keyring("a", {"a": secret}))
    for current, secrets in (("b", {"a": secret}), ("a", {"a": secret[:31]}), ("a b", {"a b": secret})):
        with pytest.raises(InvalidInput) as refused:
            Keyring(current, secrets)
        assert "seen" not in str(refused.value)
    with pytest.raises(InvalidInput) as refused:
        Keyring.parse("a=" + secret[:31].hex())
    assert secret[:31].hex() not in str(refused.value)


@pytest.mark.parametrize(
    ("current", "secrets", "says"),
    [
        ("a", {"a": "x" * 32}, "is a str; it must be 32 random bytes"),
        ("a", {"a": None}, "is a NoneType"),
        ("a", {"a": bytes(32)}, "nothing but zeros"),
        ("a", {"a": b"x" * 16}, "has 16 bytes, and must have 32"),
        ("a", {}, "not among the secrets"),
        ("", {"": b"x" * 32}, "a key id is 1 to 32"),
        ("x" * 33, {"x" * 33: b"x" * 32}, "a key id is 1 to 32"),
        ("a=b", {"a=b": b"x" * 32}, "a key id is 1 to 32"),
    ],
)
def test_a_keyring_that_is_no_keyring_is_refused(current: str, secrets: dict[str, bytes], says: str) -> None:
    """By a sentence that says what a secret and an id are."""
    with pytest.raises(InvalidInput, match=says):
        Keyring(current, secrets)


def test_a_keyring_is_read_from_a_text() -> None:
    """As a Worker or a server gets it from its environment: the current key first."""
    keys = Keyring.parse(f"new={'01' * 32}\n old={'02' * 32} ")
    assert (keys.current, keys.ids, keys.secret("old")) == ("new", ["new", "old"], b"\x02" * 32)
    file = f"# of the clinic\n\nnew = {'01' * 32}  # since May\nold={'02' * 32}\n"
    assert (Keyring.parse(file).current, Keyring.parse(file).ids) == ("new", ["new", "old"])
    with pytest.raises(InvalidInput) as said:
        Keyring.parse(f"a={'01' * 32}\n{'ab' * 32}={'02' * 32}")
    assert "line 2" in str(said.value)
    assert "abab" not in str(said.value)
    for text in ("", "a", f"a={'01' * 31}", f"a={'01' * 32} a={'02' * 32}", f"={'01' * 32}"):
        with pytest.raises(InvalidInput):
            Keyring.parse(text)
