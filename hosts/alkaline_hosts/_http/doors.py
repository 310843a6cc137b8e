"""Which pages of a browser may ask where no secret is asked for: by Origin and Host of a request. Pure: no I/O.

A browser lets a page of any web site send requests to a server on its own machine, and some of them without asking the
server first. It says where the page is from, in Origin or Sec-Fetch-Site. A site may also let its own name point to
127.0.0.1 (DNS rebinding): then the page is of the same origin, but the Host is that name. So where everybody may ask:

- a request with an Origin is let in if that origin was named, or is the host that was asked;
- one without is let in unless the browser says that a page of another site or port made it;
- the Host is an address, ``localhost``, a name without a dot, or one that was named.

Where a token or a signature is asked for, a page of somebody else has none to send, so nothing of this is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import SplitResult, urlsplit

from alkaline_edge.arguments import expect, several
from alkaline_edge.errors import InvalidInput


def origins_of(origins: Iterable[str]) -> frozenset[str]:
    """The web origins whose pages may ask; InvalidInput for what is none."""
    found = _texts(origins, "origins")
    for origin in found:
        parts = _parts(origin)
        if not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}" or "*" in origin:
            raise InvalidInput(f"an origin is written https://app.example, by name and without a path: not {origin}")
    return frozenset(origin.lower() for origin in found)


def hosts_of(hosts: Iterable[str]) -> frozenset[str]:
    """The names under which a server may be asked; InvalidInput for what is none."""
    found = _texts(hosts, "hosts")
    for host in found:
        if not host or any(c in host for c in "/*:@ "):
            raise InvalidInput(f"a host is written agents.example, without a scheme and a port: not {host}")
    return frozenset(host.lower().rstrip(".") for host in found)


def _texts(given: Iterable[str], what: str) -> frozenset[str]:
    """One text or several."""
    found = [given] if isinstance(given, str) else several(given, what, "a text, or a list of texts")
    for each in found:
        expect(each, str, f"one of {what}", "a text")
    return frozenset(found)


def refusal(headers: Mapping[str, str], origins: frozenset[str], hosts: frozenset[str], any_host: bool) -> str | None:
    """Why a request is not let in; None where it is. ``any_host``: whatever name it asks by."""
    host = headers.get("host", "").strip().lower()
    if not any_host and host and not _is_ours(_name_of(host), hosts):
        return (
            "this server, which is open to all, is not asked by this name; ask by its address, or name it in hosts= "
            "where the server is made"
        )
    origin = headers.get("origin", "").strip().lower()
    if origin in origins:
        return None
    site = headers.get("sec-fetch-site", "none").strip().lower()
    asked_from = _parts(origin).netloc
    foreign = not asked_from or asked_from != host if origin else site not in ("none", "same-origin")
    if foreign:
        return (
            "a page of another origin may not ask this server, which is open to all; name the origin in origins= where "
            "the server is made"
        )
    return None


def _parts(origin: str) -> SplitResult:
    """An origin in its parts, all of them empty for what is none, such as an address that is not closed."""
    try:
        return urlsplit(origin)
    except ValueError:
        return urlsplit("")


def _name_of(host: str) -> str:
    """A Host header without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _is_ours(name: str, hosts: frozenset[str]) -> bool:
    """An address, a name that was named, or one that nobody can point here: without a dot, or below localhost."""
    last = name.rpartition(".")[2]
    return name in hosts or ":" in name or "." not in name or last == "localhost" or last.isdigit()
