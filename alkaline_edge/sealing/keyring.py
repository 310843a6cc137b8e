"""The keys: one that seals, and older ones that still open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..arguments import expect
from ..errors import InvalidInput
from .layout import MAX_KEY_ID

SECRET_BYTES = 32
MAX_TEXT = 65_536
"""Characters of a keyring as a text: several hundred keys."""
_ID = re.compile(rf"[A-Za-z0-9_.:@~+-]{{1,{MAX_KEY_ID}}}").fullmatch


class Keyring:
    """``secrets`` by key id; ``current`` is the id of the one that seals, and all of them open.

    A key id is 1 to 32 of ``A-Z a-z 0-9 _ . : @ ~ + -`` and stands in clear in every value that it sealed; never give
    one id to two secrets. A secret is 32 random bytes, such as ``secrets.token_bytes(32)``: not a passphrase. Where
    WebCrypto seals it may be a CryptoKey for HKDF with the usage ``deriveKey``, which a page can keep without being
    able to read it. Lose a secret, and what it sealed is lost.

    ERR_INVALID_INPUT for anything else. No message and no repr shows a secret.
    """

    def __init__(self, current: str, secrets: Mapping[str, Any]) -> None:
        expect(secrets, Mapping, "the secrets of a Keyring", "a dict of key ids and secrets")
        expect(current, str, "the current key", "the id of a key")
        for id, secret in secrets.items():
            if not isinstance(id, str) or not _ID(id):
                raise InvalidInput(f"a key id is 1 to {MAX_KEY_ID} of A-Z a-z 0-9 _ . : @ ~ + -; {id!r} is not")
            _check_secret(id, secret)
        if current not in secrets:
            raise InvalidInput(f"the current key {current!r} is not among the secrets, which are {sorted(secrets)}")
        self.current = current
        self._secrets = {
            id: bytes(secret) if isinstance(secret, bytearray) else secret for id, secret in secrets.items()
        }

    @classmethod
    def parse(cls, text: str) -> Keyring:
        """The keyring in a text, of a file or of the environment: ``ID=<64 hexadecimal digits>`` for each key.

        They stand on lines of their own or behind spaces; what follows ``#`` on a line is a comment. The first one is
        current. No error says what is in the text, for it may be a secret in the wrong place.
        """
        expect(text, str, "what Keyring.parse reads", "text")
        if len(text) > MAX_TEXT:
            raise InvalidInput(f"a keyring is a text of up to {MAX_TEXT} characters, and this one has {len(text)}")
        secrets: dict[str, bytes] = {}
        for number, line in enumerate(text.splitlines(), 1):
            for item in re.sub(r"\s*=\s*", "=", line.partition("#")[0]).split():
                id, _, digits = item.partition("=")
                try:
                    secret = bytes.fromhex(digits)
                    cls(id, {id: secret})
                except (ValueError, InvalidInput):
                    secret = b""
                if not secret or id in secrets:
                    raise InvalidInput(
                        f"line {number} must be ID=<{2 * SECRET_BYTES} hexadecimal digits>, as openssl rand -hex 32 "
                        "prints them, each id once and of A-Z a-z 0-9 _ . : @ ~ + -; it is not shown here"
                    )
                secrets[id] = secret
        if not secrets:
            raise InvalidInput("there are no keys in it: write ID=<64 hexadecimal digits>, the current key first")
        return cls(next(iter(secrets)), secrets)

    @property
    def ids(self) -> list[str]:
        """The ids of all keys, in order of their names."""
        return sorted(self._secrets)

    def secret(self, id: str) -> Any:
        """The secret of that id, for a cipher. KeyError without one."""
        return self._secrets[id]

    def __repr__(self) -> str:
        return f"Keyring(current={self.current!r}, ids={self.ids})"


def _check_secret(id: str, secret: Any) -> None:
    if isinstance(secret, (bytes, bytearray)):
        if len(secret) != SECRET_BYTES:
            raise InvalidInput(
                f"the secret of {id!r} has {len(secret)} bytes, and must have {SECRET_BYTES} random ones, such as "
                "secrets.token_bytes(32)"
            )
        if not any(secret):
            raise InvalidInput(f"the secret of {id!r} is nothing but zeros: make a random one")
    elif secret is None or isinstance(secret, (str, int, float, list, tuple, dict)):
        raise InvalidInput(
            f"the secret of {id!r} is a {type(secret).__name__}; it must be {SECRET_BYTES} random bytes (a CryptoKey "
            "will do for WebCrypto). Derive them from a passphrase with a slow function of your own, such as scrypt"
        )
