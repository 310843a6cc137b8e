"""``open_host``: which URL opens what, and what is said about one that can't be opened."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import alkaline_hosts
from alkaline_edge.errors import InvalidInput, NotFound, StoreError
from alkaline_edge.host import Host
from alkaline_hosts import open_host
from alkaline_hosts.file import FileHost
from alkaline_hosts.memory import MemoryHost
from tests.hosts.file_support import drive, put


@pytest.mark.parametrize("url", [None, "memory:", "memory://", "MEMORY:"])
def test_memory(url: str | None) -> None:
    """None and ``memory:`` are a new, empty store each."""
    first, second = open_host(url), open_host(url)
    assert isinstance(first, MemoryHost)
    drive(lambda: first.commit(put("a", b"1")))
    assert drive(lambda: second.list("")) == []


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("runs.alkaline", "runs.alkaline"),
        ("./odd:name", "odd:name"),
        ("C:runs", "C:runs"),
        ("file:runs.alkaline", "runs.alkaline"),
        ("file:a%20b", "a b"),
        ("file:odd:name", "odd:name"),
        ("file:what?", "what?"),
    ],
)
def test_paths_and_relative_file_urls(url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything without a scheme is a path; ``file:`` is one too, percent-decoded, relative unless it begins with /."""
    monkeypatch.chdir(tmp_path)
    host = open_host(url)
    assert isinstance(host, FileHost)
    assert (tmp_path / name).exists()
    drive(host.close)


def test_absolute_file_urls(tmp_path: Path) -> None:
    """``file:///path``, ``file://localhost/path`` and ``file:/path`` are absolute; a path object needs no URL."""
    path = tmp_path / "a b?.alkaline"
    for url in (path.as_uri(), path.as_uri().replace("file://", "file://localhost"), f"file:{path}", path):
        host = open_host(url)
        drive(lambda: host.commit(put("a", b"1")))  # noqa: B023 - driven at once
        drive(host.close)
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".alkaline"] == [path.name]


def test_read_only(tmp_path: Path) -> None:
    """Nothing is created and nothing can be written, whatever the host."""
    with pytest.raises(NotFound):
        open_host(tmp_path / "a.alkaline", read_only=True)
    assert list(tmp_path.iterdir()) == []
    drive(open_host(tmp_path / "a.alkaline").close)

    async def write(host: Host) -> None:
        with pytest.raises(StoreError, match=r"read-only|read_only"):
            await host.commit(put("a", b"1"))
        assert await host.list("") == []
        assert await host.get(["a"]) == [None]
        assert host.now_ms() > 0
        assert len(host.entropy(4)) == 4
        await host.sleep(0)
        assert await host.run_in_thread(len, "abc") == 3  # type: ignore[attr-defined]  # both hosts have threads
        await host.close()

    for url in ("memory:", str(tmp_path / "a.alkaline")):
        drive(lambda: write(open_host(url, read_only=True)))  # noqa: B023 - driven at once


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite:a.db", "http://x", "s3://bucket", "ab:c"])
def test_unknown_schemes_list_the_known(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt URL makes no file of that name: it is refused, with what is known."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"known are memory:, a path, file:PATH, postgresql://.*redis://"):
        open_host(url)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "not empty"),
        ("file:", "needs a path"),
        ("file://server/share", "another machine"),
        ("file:///a?x=1", "no [?]query"),
        ("memory:shared", "takes no name"),
    ],
)
def test_urls_that_say_nothing(url: str, said: str) -> None:
    """Each is InvalidInput that says what to write instead."""
    with pytest.raises(InvalidInput, match=said):
        open_host(url)


@pytest.mark.parametrize(
    ("url", "module", "function"),
    [
        ("postgresql://u@h/db", "postgres", "open_postgres"),
        ("postgres://h", "postgres", "open_postgres"),
        ("redis://h:6379/0", "redis", "open_redis"),
        ("rediss://h", "redis", "open_redis"),
    ],
)
def test_servers(url: str, module: str, function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is imported when its URL is opened, and given the whole URL."""
    seen: list[str] = []

    def opener(given: str) -> Any:
        seen.append(given)
        return MemoryHost()

    fake = types.ModuleType(module)
    setattr(fake, function, opener)
    monkeypatch.setitem(sys.modules, f"alkaline_hosts.{module}", fake)
    assert isinstance(open_host(url), MemoryHost)
    with pytest.raises(StoreError, match="read-only"):
        drive(lambda: open_host(url, read_only=True).commit(put("a", b"")))
    assert seen == [url, url]


@pytest.mark.parametrize(
    ("missing", "said"),
    [("alkaline_hosts.redis", "has no redis host"), ("redis", "needs redis, which is not installed")],
)
def test_a_missing_server_host_names_its_extra(missing: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that is not there, or whose client is not installed: InvalidInput with the command that installs it."""

    def importing(name: str) -> types.ModuleType:
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr("alkaline_hosts.opening.import_module", importing)
    with pytest.raises(InvalidInput, match=said) as caught:
        open_host("redis://h")
    assert "alkaline-edge[redis]" in str(caught.value)


def test_importing_the_package_imports_no_host() -> None:
    """A Worker that uses one host pays for that one alone."""
    program = "import sys, alkaline_hosts; print([n for n in sys.modules if n.startswith('alkaline_hosts.')])"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = alkaline_hosts.nonsense
