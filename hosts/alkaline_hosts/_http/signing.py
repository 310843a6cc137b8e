"""Who may ask: a bearer token, or a request signed with a shared key (HMAC-SHA256). Pure: no I/O.

A signed request carries one header:

    authorization: alkaline-hmac-sha256 key=KEY, time=SECONDS, nonce=HEX, signature=HEX

The signature is HMAC-SHA256 under the key's secret over these lines, joined by a line feed: the scheme's name as above,
the key's name, the time, the nonce, the method, the path with its query as it is sent, and the sha256 of the body in
hexadecimal. A time further than the window from the server's clock is refused, and a nonce counts once. Nonces are
remembered by this object: behind several processes a replay within the window could reach another one, where repeating
a move changes nothing, and a signal counts once if it has a dedupe key.
"""

from __future__ import annotations

import hmac
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from heapq import heappop, heappush

from alkaline_edge.arguments import expect, expect_call, several
from alkaline_edge.errors import InvalidInput
from alkaline_edge.limits import check_seconds

from .messages import Head, Refused, Request

SCHEME = "alkaline-hmac-sha256"
WINDOW_SECONDS = 300
_SIGNED = re.compile(
    rf"{SCHEME} key=([\w.:@-]{{1,100}}), time=(\d{{1,12}}), nonce=([0-9a-f]{{16,64}}), signature=([0-9a-f]{{64}})",
    re.IGNORECASE | re.ASCII,
)
_TOKEN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_KEY = re.compile(r"[\w.:@-]{1,100}", re.ASCII)
_MAX_NONCES = 100_000


def _secret(value: str | bytes, what: str, least: int) -> bytes:
    if not isinstance(value, (str, bytes, bytearray)):
        raise InvalidInput(f"{what} is text or bytes, not {type(value).__name__}")
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else bytes(value)
    if len(data) < least:
        raise InvalidInput(f"{what} has {len(data)} bytes; use {least} random ones or more")
    return data


def check_token(token: str, least: int = 1) -> bytes:
    """A bearer token as it can stand in a header; InvalidInput for one that a server would never see as it is here."""
    data = _secret(token, "a token", least)
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise InvalidInput(
            "a token is text of printable ASCII characters, without spaces around it; one read from a file may "
            "have a line break at its end: strip() it"
        )
    return data


def check_key(name: str, secret: str | bytes) -> bytes:
    """The secret of a key for signed requests; InvalidInput for a name that a header can't have, or a short secret."""
    if not isinstance(name, str) or not _KEY.fullmatch(name):
        raise InvalidInput("the name of a key is 1 to 100 of the characters A-Z a-z 0-9 _ . : @ -")
    return _secret(secret, "the secret of a key", 16)


def _signature(secret: bytes, key: str, when: str, nonce: str, method: str, target: str, body: bytes) -> str:
    lines = [SCHEME, key, when, nonce, method.upper(), target, sha256(body).hexdigest()]
    return hmac.new(secret, "\n".join(lines).encode(), sha256).hexdigest()


def sign(
    key: str, secret: str | bytes, method: str, target: str, body: bytes = b"", now: float | None = None
) -> dict[str, str]:
    """The header of a signed request. ``target`` is the path with its query, percent-encoded as it is sent."""
    when, nonce = str(int(time.time() if now is None else now)), os.urandom(16).hex()
    signature = _signature(check_key(key, secret), key, when, nonce, method, target, body)
    return {"authorization": f"{SCHEME} key={key}, time={when}, nonce={nonce}, signature={signature}"}


class Access:
    """What a server accepts: ``tokens`` (one text or several, so that one can be replaced), ``keys`` by name, or both.

    ``window`` is in seconds, ``clock`` gives seconds since 1970. ERR_INVALID_INPUT for no secret, or a short one.
    """

    def __init__(
        self,
        tokens: str | Iterable[str] = (),
        keys: Mapping[str, str | bytes] | None = None,
        window: float = WINDOW_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        given = [tokens] if isinstance(tokens, str) else several(tokens, "token", "a text, or a list of texts")
        expect(keys, (Mapping, type(None)), "keys", "a dict of names and secrets")
        check_seconds(window, "window", 1)
        expect_call(clock, "clock", "a function that gives seconds")
        # Digests are compared, so that neither the content nor the length of a token shows in the time it takes.
        self._tokens = [sha256(check_token(token, 16)).digest() for token in given]
        self._secrets = {name: check_key(name, secret) for name, secret in (keys or {}).items()}
        if not self._tokens and not self._secrets:
            raise InvalidInput("nobody could ask: give a token, or keys for signed requests")
        self._window, self._clock = window, clock
        self._nonces: set[str] = set()
        self._forgotten: list[tuple[float, str]] = []  # a heap: when each nonce may be forgotten

    def admit(self, head: Head) -> None:
        """Raise Refused for a request that can't be let in whatever its body is. Call it before the body is read."""
        given = head.headers.get("authorization", "")
        scheme, _, rest = given.partition(" ")
        if scheme.lower() == "bearer":
            digest = sha256(rest.strip().encode("utf-8", "surrogateescape")).digest()
            if not sum(hmac.compare_digest(digest, token) for token in self._tokens):  # compares with all, in any case
                raise Refused(401, "the token is not one that this server accepts")
        elif scheme.lower() == SCHEME:
            self._fields(given)
        else:
            raise Refused(401, "this server wants a bearer token or a signed request in the authorization header")

    def verify(self, request: Request) -> None:
        """Raise Refused unless the signature of a signed request is right and new. Call it with the whole body."""
        given = request.headers.get("authorization", "")
        if given.partition(" ")[0].lower() != SCHEME:
            return
        key, when, nonce, signature = self._fields(given)
        expected = _signature(self._secrets[key], key, when, nonce, request.method, request.target, request.body)
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise Refused(401, "the signature does not fit the request: wrong secret, or it was changed on its way")
        now = self._clock()
        while self._forgotten and self._forgotten[0][0] < now:
            self._nonces.remove(heappop(self._forgotten)[1])
        if f"{key} {nonce}" in self._nonces:
            raise Refused(401, "this signed request came before: sign each one anew")
        if len(self._nonces) >= _MAX_NONCES:
            raise Refused(503, "too many signed requests at once: try again later")
        self._nonces.add(f"{key} {nonce}")
        heappush(self._forgotten, (int(when) + self._window + 1, f"{key} {nonce}"))

    def _fields(self, header: str) -> tuple[str, str, str, str]:
        found = _SIGNED.fullmatch(header.strip())
        if found is None:
            raise Refused(401, f"the signature must read: {SCHEME} key=..., time=..., nonce=..., signature=...")
        key, when, nonce, signature = found.groups()
        if key not in self._secrets:
            raise Refused(401, "the request is signed with a key that this server does not know")
        if abs(self._clock() - int(when)) > self._window:
            raise Refused(401, "the request was signed too long ago, or in the future: check both clocks")
        return key, when, nonce.lower(), signature.lower()
