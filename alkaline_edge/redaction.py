"""What is cut out of the message of a failure before it is written down: stack traces, home directories, secrets.

Everything else stays as it was thrown: other paths, URLs, routes and ratios are what the message is about. It is a net
with holes. What it takes for a secret, in the order in which it looks:

- a private key in PEM; a token that says by its beginning what it is (``sk-``, ``ghp_``, ``AKIA``, ``eyJ`` and so on);
- the user's part of a URL, ``scheme://user:<secret>@host``, and signatures and keys in its query;
- what stands behind ``Authorization``, ``Cookie``, ``Bearer`` or ``Basic``, and behind an option such as ``--token``;
- the value of a name that ends in key, token, secret, password and the like, by ``=`` or ``:``, quoted or not;
- text of 24 characters or more without a space that is as mixed as only random text is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise
from typing import Any

from .limits import MAX_MESSAGE

SECRET, PATH = "<secret>", "<path>"
_WHOLE = 4 * MAX_MESSAGE
"""Characters that are looked at: more than are kept, so that the border cuts no secret in two."""


class _Pattern:
    """A pattern that is compiled when it is first looked for.

    Compiling these takes a quarter of the time of `import alkaline_edge`, and most programs never see a failure.
    """

    def __init__(self, text: str, flags: int = 0) -> None:
        self._text, self._flags = text, flags

    @cached_property
    def sub(self) -> Callable[..., str]:
        """As ``re.Pattern.sub``."""
        return re.compile(self._text, self._flags).sub

    @cached_property
    def match(self) -> Callable[[str], re.Match[str] | None]:
        """As ``re.Pattern.match``."""
        return re.compile(self._text, self._flags).match


_TRACE = "Traceback (most recent call last)"
# A home names a person: from there on nothing of the path is kept. A URL's path is none of this machine, a file's is.
_HOME = _Pattern(
    r"(?<![\w.%-])(?:/home/|/Users/|/root(?=/)|/var/root(?=/)|~[\w.-]*/)[^\s'\"<>:,;)\]}]*"
    r"|\b[A-Za-z]:[\\/]+(?:Users|Documents and Settings)[\\/]+[^\s'\"<>:,;)\]}]*",
    re.ASCII,
)
_PEM = _Pattern(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL)
_KNOWN = _Pattern(
    r"\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)*"
    r"|\b(?:sk|pk|rk)[-_](?=[\w-]*\d)[\w-]{12,}|\b(?:ghp|gho|ghu|ghs|ghr|npm|hf|gsk|dop_v1|whsec|shpat|nvapi|tvly|pplx)[-_]\w{12,}"
    r"|\bgithub_pat_\w{12,}|\bglpat-[\w-]{12,}|\bxox[abeprs]-[\w-]{10,}|\bxapp-[\w-]{12,}|\bxai-\w{12,}"
    r"|\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b|\bAIza[\w-]{30,}|\bya29\.[\w-]{12,}|\bSG\.[\w-]{12,}\.[\w-]+|\bpypi-[\w-]{20,}"
    r"|\bAGE-SECRET-KEY-1\w+",
    re.ASCII,
)
_USERINFO = _Pattern(r"(\b[A-Za-z][\w+.-]{0,30}://)(?:([^\s/?#:@'\"]*)(:))?[^\s/?#'\"]+@", re.ASCII)
_IN_QUERY = _Pattern(
    r"(?i)([?&](?:key|sig|signature|auth|code|x-amz-(?:signature|credential|security-token)|x-goog-signature)=)[^\s&#'\"]+"
)
_HEADER = _Pattern(r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie)([\"']?\s*[:=]\s*[\"']?)([^\r\n'\"]+)")
_SCHEME = _Pattern(r"(?i)\b(bearer|basic|token)(\s+)([\w./+=~-]{8,})")
_OPTION = _Pattern(
    r"(?i)(--?[\w-]{0,40}(?:key|token|secret|password|passwd|pwd|passphrase)[ =])(['\"]?)([^\s'\"-][^\s'\"]*)"
)
_NAMES = (
    r"api[_-]?keys?|(?:access|account|secret|private|auth|signing|encryption|master|service|shared|storage|license)[_-]?keys?"
    r"|(?:access|secret)[_-]?key[_-]?id|tokens?|secrets?|passwords?|passwd|passphrase|pwd|passcode|credentials?|signature"
)
_FIELD = _Pattern(
    rf"(?i)((?:{_NAMES})(?:[_-]?(?:base|value|hash|\d{{1,3}}))?)((?:\\?[\"'])?\s*(?:=>|:=|[=:])\s*)"
    r"(\\?\"[^\"\r\n]*\"?|\\?'[^'\r\n]*'?|[^\s,;&'\"<>)\]}]+)"
)
_NAMED = _Pattern(
    rf"(?i)(?:^|.*[\W_a-z])(?:{_NAMES})(?:[_-]?(?:base|value|hash|\d{{1,3}}))?$|^(?:authorization|cookie|set-cookie)$"
)
_MIXED = _Pattern(r"(?<![\w/+=.-])[\w+=-]{24,}(?![\w/])", re.ASCII)


def redact(text: str) -> str:
    """``text`` without a stack trace, without homes, and without what looks like a secret."""
    text = text[:_WHOLE].encode("utf-8", "replace").decode()
    if _TRACE in text:
        text = text.split(_TRACE, 1)[0].rstrip() or "(a stack trace was left out)"
    if "-----BEGIN" in text:
        text = _PEM.sub(SECRET, text)
    text = _KNOWN.sub(SECRET, text)
    if "://" in text:
        text = _IN_QUERY.sub(rf"\1{SECRET}", _USERINFO.sub(_user, text))
    text = _HEADER.sub(_header, text)
    text = _SCHEME.sub(_scheme, text)
    if "-" in text:
        text = _OPTION.sub(rf"\1\2{SECRET}", text)
    if "=" in text or ":" in text:
        text = _FIELD.sub(_field, text)
    text = _MIXED.sub(lambda found: SECRET if _random(found[0]) else found[0], text)
    return _HOME.sub(PATH, text) if "/" in text or "\\" in text else text


def redact_deep(value: Any, name: str = "") -> Any:
    """As ``redact``, for each text in ``value``; under a name that says secret it is one, whatever it looks like."""
    if isinstance(value, str):
        return SECRET if name and _NAMED.match(name[-100:]) and not value.isdigit() else redact(value)
    if isinstance(value, dict):
        return {key: redact_deep(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [redact_deep(item, name) for item in value]
    return value


def _user(found: re.Match[str]) -> str:
    """The user's name stays where there is a password behind it; a lone one is a token."""
    return f"{found[1]}{found[2]}:{SECRET}@" if found[3] else f"{found[1]}{SECRET}@"


def _header(found: re.Match[str]) -> str:
    scheme, _, rest = found[3].strip().partition(" ")
    if not rest:  # "authorization: denied" is prose, "authorization: 3f0c" is not
        return found[0] if _is_word(scheme) else f"{found[1]}{found[2]}{SECRET}"
    if "cookie" in found[1].lower() or scheme.lower() in ("basic", "bearer", "token", "digest", "negotiate"):
        return f"{found[1]}{found[2]}{SECRET}"
    return found[0] if all(map(_is_word, rest.split())) else f"{found[1]}{found[2]}{scheme} {SECRET}"


def _scheme(found: re.Match[str]) -> str:
    return found[0] if _is_word(found[3]) else f"{found[1]}{found[2]}{SECRET}"


def _field(found: re.Match[str]) -> str:
    name, between, value = found.groups()
    inner = value.strip("\\\"'").rstrip(".!?")
    quote = value[: len(value) - len(value.lstrip("\\\"'"))]
    if not inner or inner.startswith("<secret") or inner.lower() in ("none", "null", "true", "false", "undefined"):
        return found[0]
    if name.lower().startswith("token") and inner.isdigit() and len(inner) < 10:  # a number of tokens
        return found[0]
    prose = (
        "=" not in between and not quote and between[-1:].isspace()
    )  # "password: too short", "invalid token: expired"
    if prose:
        rest = found.string[found.end() : found.end() + 2]
        goes_on = len(rest) == 2 and rest[0] == " " and rest[1].isalpha()
        is_word = inner.replace("-", "").replace("_", "").isalpha()
        if (is_word and (goes_on or not name.lower().startswith(("pass", "pwd", "secret")))) or len(inner) < 3:
            return found[0]
        if not re.search(r"\w", inner):
            return found[0]
    return f"{name}{between}{quote}{SECRET}{quote if value.endswith(quote) and len(value) > len(quote) else ''}"


def _is_word(text: str) -> bool:
    """Whether it is a word of a sentence, such as the one in "bearer authentication failed"."""
    plain = text.strip(".,;:!?()")
    return len(plain) < 20 and plain.isalpha() and (plain.islower() or plain.istitle() or plain.isupper())


def _random(text: str) -> bool:
    """Whether ``text`` changes between capitals, small letters and digits as often as no name does."""
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" if c.islower() else "" for c in text]
    kinds = [kind for kind in kinds if kind]
    changes = sum(a != b for a, b in pairwise(kinds))
    return kinds.count("d") >= 3 and {"u", "l"} <= set(kinds) and changes * 3 >= len(kinds)
