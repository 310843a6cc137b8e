"""``alkaline`` on sealed stores: with a file of keys, without one, and with files that are no good."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from alkaline_edge import Context, Runtime, workflow
from alkaline_hosts.file import FileHost
from tests.sealing.support import INSTALLED, KEYS, NEW, OLD, TENANT, sealed

pytest.importorskip("click", reason="the extra cli is not installed")
pytest.importorskip("rich", reason="the extra cli is not installed")
from click.testing import CliRunner, Result

from alkaline_hosts._cli.commands import alkaline

pytestmark = pytest.mark.skipif(not INSTALLED, reason="the extra crypto is not installed")
FILE = f"# made on the first of November\n\n new = {NEW.hex()}  # seals\nold={OLD.hex().upper()}\n"
UNSET = {f"ALKALINE_{side}{name}": None for side in ("", "SOURCE_", "TARGET_") for name in ("KEYS", "TENANT", "STORE")}


@workflow(name="sealed_research")
async def research(ctx: Context, topic: str) -> Any:
    found = await ctx.step("search", lambda: f"all about {topic}")
    return [found, await ctx.wait_for_signal("go")]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A sealed file with a run that waits, and its keys beside it."""
    path = tmp_path / "sealed.alkaline"
    (tmp_path / "keys").write_text(FILE)

    async def fill() -> None:
        host = sealed(FileHost(path, fsync=False))
        async with Runtime(host, workflows=[research]) as runtime:
            await (await runtime.start(research, "lichen", id="exe_1")).settle()
        await host.close()

    asyncio.run(fill())
    return path


def run(*args: object, code: int = 0, **env: Any) -> Result:
    result = CliRunner().invoke(alkaline, [str(arg) for arg in args], env={**UNSET, **env})
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    assert NEW.hex() not in result.output.lower()
    return result


def test_every_command_on_a_store_takes_keys(store: Path, tmp_path: Path) -> None:
    """To read, to write, to move: by options and by the environment. What they write is sealed, bundles are plain."""
    keys = ("--keys", tmp_path / "keys", "--tenant", TENANT)
    env: dict[str, Any] = {"ALKALINE_KEYS": str(tmp_path / "keys"), "ALKALINE_TENANT": TENANT}
    bundle, other, third = tmp_path / "1.alk", tmp_path / "other.alkaline", tmp_path / "third.alkaline"
    assert "suspended" in run("list", store, *keys).stdout
    assert "signal go" in run("show", store, "exe_1", **env).stdout
    assert "all about lichen" in run("events", store, "exe_1", **env).stdout
    run("export", store, "exe_1", bundle, *keys)
    assert b"all about lichen" in bundle.read_bytes()
    assert "the same" in run("diff", bundle, "exe_1", "--store", store, *keys).stdout
    run("import", other, bundle, *keys)
    run("sync", store, "exe_1", third, **env)
    run("signal", store, "exe_1", "go", '"the lichens of Lapland"', **env)
    run("cancel", other, "exe_1", "--reason", "the lichens of Lapland", *keys)
    for path in (store, other, third):
        content = path.read_bytes()
        assert b"exe_1" in content, "keys are in clear, and this test would see what is"
        assert b"lichen" not in content
        assert "exe_1" in run("list", path, *keys).stdout
    run("handover", store, "exe_1", tmp_path / "fourth.alkaline", **env)
    assert json.loads(run("show", tmp_path / "fourth.alkaline", "exe_1", "--json", **env).stdout)["moved_to"] is None


def test_a_server_keeps_its_runs_sealed(store: Path, tmp_path: Path) -> None:
    """``alkaline serve`` with keys: what is sent to it over HTTP is there for who has them."""
    pytest.importorskip("uvicorn", reason="the extra serve is not installed")
    from tests.http.test_moving_commands import TOKEN, serving

    keys = ("--keys", str(tmp_path / "keys"), "--tenant", TENANT)
    served = tmp_path / "served.alkaline"
    with serving(served, *keys) as url:
        run("sync", store, "exe_1", url, *keys, ALKALINE_TOKEN=TOKEN)
        run("export", url, "exe_1", tmp_path / "1.alk", ALKALINE_TOKEN=TOKEN)
        assert b"all about lichen" in (tmp_path / "1.alk").read_bytes()
    assert b"lichen" not in served.read_bytes()
    assert "all about lichen" in run("events", served, "exe_1", *keys).stdout


def test_the_sides_of_a_move_may_be_sealed_otherwise(store: Path, tmp_path: Path) -> None:
    """Each with keys and a tenant of its own; empty keys are a side without a seal."""
    (tmp_path / "others").write_text(f"laptop={OLD.hex()}")
    keys = ("--keys", tmp_path / "keys", "--tenant", TENANT)
    plain, other = tmp_path / "plain.alkaline", tmp_path / "other.alkaline"
    run("sync", store, "exe_1", plain, *keys, ALKALINE_TARGET_KEYS="")
    assert "paused" in run("show", plain, "exe_1").stdout
    theirs: dict[str, Any] = {"TARGET_KEYS": str(tmp_path / "others"), "TARGET_TENANT": "theirs"}
    run("handover", store, "exe_1", other, *keys, **{f"ALKALINE_{name}": value for name, value in theirs.items()})
    theirs = {f"ALKALINE_{name.removeprefix('TARGET_')}": value for name, value in theirs.items()}
    assert "suspended" in run("show", other, "exe_1", **theirs).stdout
    assert "'laptop', and the keyring holds new, old" in run("show", other, "exe_1", *keys, code=3).stderr
    run("sync", other, "exe_1", tmp_path / "back.alkaline", code=3, ALKALINE_TARGET_KEYS="")


def test_without_keys_a_sealed_store_says_that_it_is_sealed(store: Path, tmp_path: Path) -> None:
    """One line, with what to give; the same for a store that is not sealed and is taken for one."""
    for command in (["list"], ["show", "exe_1"], ["events", "exe_1"], ["signal", "exe_1", "go"], ["inspect"]):
        said = run(command[0], store, *command[1:], code=3).stderr
        assert "this store is sealed" in said
        assert "give --keys and --tenant" in said
        assert said.count("\n") == 1
    run("export", store, "exe_1", tmp_path / "x.alk", code=3)
    keys = ("--keys", tmp_path / "keys")
    assert "give it with --tenant or ALKALINE_TENANT" in run("list", store, *keys, code=2).stderr
    assert "name the file of its keys" in run("list", store, "--tenant", TENANT, code=2).stderr
    assert "does not open" in run("show", store, "exe_1", *keys, "--tenant", "another", code=3).stderr
    run("sync", store, "exe_1", tmp_path / "plain.alkaline", *keys, "--tenant", TENANT, ALKALINE_TARGET_KEYS="")
    said = run("show", tmp_path / "plain.alkaline", "exe_1", *keys, "--tenant", TENANT, code=3).stderr
    assert "is not sealed, and this store is" in said


@pytest.mark.parametrize("given", ["nothing", "another tenant", "another secret"])
@pytest.mark.parametrize("command", ["import", "sync", "handover", "serve"])
def test_nothing_is_written_into_a_sealed_store_that_the_keys_do_not_open(
    command: str, given: str, store: Path, tmp_path: Path
) -> None:
    """What is new there needs nothing of what is: it would lie plain among sealed values, or sealed by another key."""
    (tmp_path / "wrong").write_text(f"new={OLD.hex()}")
    keys = {
        "nothing": (),
        "another tenant": ("--keys", tmp_path / "keys", "--tenant", "another"),
        "another secret": ("--keys", tmp_path / "wrong", "--tenant", TENANT),
    }[given]
    plain = tmp_path / "plain.alkaline"

    async def fill() -> None:
        host = FileHost(plain, fsync=False)
        async with Runtime(host, workflows=[research]) as runtime:
            await (await runtime.start(research, "moss", id="exe_2")).settle()
            (tmp_path / "2.alk").write_bytes(await runtime.export("exe_2"))
        await host.close()

    asyncio.run(fill())
    before = store.read_bytes()
    words: tuple[object, ...] = {
        "import": ("import", store, tmp_path / "2.alk"),
        "serve": ("serve", store, "--bind", "127.0.0.1:0"),
    }.get(command, (command, plain, "exe_2", store))
    env: dict[str, Any] = {"ALKALINE_SOURCE_KEYS": "", "ALKALINE_TOKEN": "a-token-for-these-tests"}
    said = run(*words, *keys, code=3, **env).stderr
    assert "this store is sealed" in said if given == "nothing" else "does not open" in said
    assert store.read_bytes() == before
    assert json.loads(run("show", plain, "exe_2", "--json").stdout)["moved_to"] is None


BAD = {
    "empty": ("# nothing\n", "the keys in bad: there are no keys in it"),
    "no id": (f"{NEW.hex()}\n", "the keys in bad: line 1 must be ID="),
    "the secret as id": (f"{NEW.hex()}={NEW.hex()}", "line 1 "),
    "too short": (f"a={OLD.hex()}\nnew={NEW.hex()[:-2]}", "line 2 "),
    "no hex": (f"new={NEW.hex()[:-1]}x", "line 1 "),
    "the other way round": (f"{NEW.hex()}=new", "line 1 "),
    "twice": (f"new={NEW.hex()}\n\nnew={OLD.hex()}", "line 3 "),
    "zeros": ("new=" + "00" * 32, "line 1 "),
    "no text": ("\udcff\udcfe=" + NEW.hex(), "line 1 "),
    "endless": (f"new={NEW.hex()}\n" + "#" * 70_000, "has more than"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_of_keys_is_told_of_by_line_and_never_shown(what: str, tmp_path: Path) -> None:
    """Neither the secret nor a part of it; and no store is made."""
    content, says = BAD[what]
    (tmp_path / "bad").write_bytes(content.encode("utf-8", "surrogateescape"))
    (tmp_path / "x.alk").write_bytes(b"x")
    result = run("list", tmp_path / "new.alkaline", "--keys", tmp_path / "bad", "--tenant", TENANT, code=2)
    assert says in result.stderr
    assert NEW.hex()[:12] not in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "new.alkaline").exists()


def test_a_file_of_keys_that_is_not_there(store: Path, tmp_path: Path) -> None:
    """Its name is told, and that it is not there."""
    said = run("list", store, "--keys", tmp_path / "none", "--tenant", TENANT, code=2).stderr
    assert re.search("none: No such file", said)


def test_without_the_extra_it_says_what_to_install(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of an ImportError."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    said = run("list", store, "--keys", tmp_path / "keys", "--tenant", TENANT, code=2).stderr
    assert "pip install 'alkaline-edge[crypto]'" in said


ASKED_OF_SERVERS = [
    ["list", "URL"],
    ["show", "URL", "exe_1"],
    ["export", "URL", "exe_1", "1.alk"],
    ["import", "URL", "1.alk"],
    ["signal", "--store", "URL", "exe_1", "go"],
    ["sync", "URL", "exe_1", "URL2"],
    ["diff", "a.alk", "exe_1", "--store", "URL"],
    ["diff", "a.alk", "b.alk"],
    ["check", "exe_1", "--store", "URL", "--workflows", "json"],
]


@pytest.mark.parametrize("option", ["--keys", "--tenant"])
@pytest.mark.parametrize("command", ASKED_OF_SERVERS, ids=lambda command: " ".join(command[:2]))
def test_keys_for_what_only_a_server_opens_are_an_error(command: list[str], option: str, tmp_path: Path) -> None:
    """They would be taken for what protects the values there. From the environment they are for other commands."""
    url = "HTTP://127.0.0.1:9"
    words = [url if word == "URL" else url + "/2" if word == "URL2" else word for word in command]
    said = run(*words, option, tmp_path / "keys", code=2).stderr
    assert f"{option} is for a sealed store, and {'a server opens its own' if 'URL' in command else 'none is'}" in said
    assert said.count("\n") == 1
    env: dict[str, Any] = {"ALKALINE_KEYS": str(tmp_path / "keys"), "ALKALINE_TENANT": TENANT}
    if command[0] in ("list", "show", "sync"):
        assert "was not reached" in run(*words, code=3, **env).stderr


def test_the_first_key_seals(store: Path, tmp_path: Path) -> None:
    """In the order of the file, whatever their names."""
    (tmp_path / "keys").write_text("".join(f"{id}={KEYS.secret(id).hex()}\n" for id in ("old", "new")))
    run("signal", store, "exe_1", "go", "1", "--keys", tmp_path / "keys", "--tenant", TENANT)
    host = FileHost(store, read_only=True)

    async def inbox() -> bytes:
        return (await host.list("i/"))[0].value

    assert asyncio.run(inbox())[3:8] == b"\x01\x03old"
