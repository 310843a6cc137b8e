"""The configuration of a control plane: a TOML file of servers, and of who may look and who may operate.

    [[server]]
    name = "europe"
    url = "https://eu.example/agents"
    token_env = "EU_TOKEN"

    [[access]]
    name = "on call"
    role = "operate"
    token_env = "ON_CALL_TOKEN"

No secret is in it: ``token_env`` names the variable of the environment that has one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

from alkaline_edge.errors import InvalidInput

from .._http.signing import check_token

Role = Literal["look", "operate"]
ROLES: tuple[str, ...] = get_args(Role)
LEAST = 16
"""Characters of a token that lets somebody in here."""


class Server(NamedTuple):
    """One server: what people call it, where it is, and what it is asked with. ``insecure``: without TLS."""

    name: str
    url: str
    token: str | None = None
    insecure: bool = False


class Access(NamedTuple):
    """Who may ask: by a token, in a role. ``operate`` may look too."""

    name: str
    role: str
    token: str


class Config(NamedTuple):
    """All of it, checked."""

    servers: list[Server]
    access: list[Access]


def config_of(text: str, environment: Mapping[str, str]) -> Config:
    """What a file says. ERR_INVALID_INPUT for what is wrong in it, by its place, and no word of a secret."""
    try:
        read = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"the configuration is no TOML: {error}") from None
    _only(read, {"server", "access"}, "the configuration")
    servers = [_server(n, each, environment) for n, each in enumerate(_tables(read, "server"), 1)]
    access = [_access(n, each, environment) for n, each in enumerate(_tables(read, "access"), 1)]
    if not servers:
        raise InvalidInput("the configuration names no [[server]]: there is nothing to control")
    if not access:
        raise InvalidInput("the configuration has no [[access]]: nobody could ask; give a token a role")
    for what, names in (("server", [s.name for s in servers]), ("access", [a.name for a in access])):
        if len(set(names)) < len(names):
            raise InvalidInput(f"two [[{what}]] have one name: {', '.join(names)[:200]}")
    if len({each.token for each in access}) < len(access):
        raise InvalidInput("two [[access]] have one token, so who asks can't be told: give each its own")
    return Config(servers, access)


def _tables(read: dict[str, Any], name: str) -> list[dict[str, Any]]:
    found = read.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidInput(f"{name} is a list of tables: write [[{name}]]")
    return found


def _only(table: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(table.keys() - known)
    if unknown:
        raise InvalidInput(f"{where} has {', '.join(unknown)[:200]}, and may have {', '.join(sorted(known))}")


def _text(table: dict[str, Any], name: str, where: str, needed: bool = True) -> str | None:
    value = table.get(name)
    if value is None and not needed:
        return None
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{where} wants {name}, a text")
    return value


def _secret(table: dict[str, Any], where: str, environment: Mapping[str, str], needed: bool) -> str | None:
    name = _text(table, "token_env", where, needed)
    if name is None:
        return None
    token = environment.get(name)
    if not token:
        raise InvalidInput(f"{where}: the environment has no {name[:100]}")
    check_token(token)
    return token


def _server(n: int, table: dict[str, Any], environment: Mapping[str, str]) -> Server:
    where = f"[[server]] {n}"
    _only(table, {"name", "url", "token_env", "insecure"}, where)
    name, url = _text(table, "name", where), _text(table, "url", where)
    insecure = table.get("insecure", False)
    if not isinstance(insecure, bool):
        raise InvalidInput(f"{where}: insecure is true or false")
    assert name is not None
    assert url is not None
    return Server(name, url, _secret(table, where, environment, False), insecure)


def _access(n: int, table: dict[str, Any], environment: Mapping[str, str]) -> Access:
    where = f"[[access]] {n}"
    _only(table, {"name", "role", "token_env"}, where)
    name, role = _text(table, "name", where), _text(table, "role", where)
    if role not in ROLES:
        raise InvalidInput(f"{where}: role is {' or '.join(ROLES)}, not {str(role)[:40]!r}")
    token = _secret(table, where, environment, True)
    assert name is not None
    assert token is not None
    if len(token) < LEAST:
        raise InvalidInput(f"{where}: a token that lets somebody in has {LEAST} characters or more")
    return Access(name, role, token)
