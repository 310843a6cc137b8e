"""Values to canonical msgpack and back: the same bytes from msgpack's C extension and from its pure fallback.

The profile (SPEC.md, "Values"): None, bool, int of any size, float, str, bytes, list, dict with str keys, and aware
datetimes. A tuple is stored as a list. Map keys are sorted, integers are as short as they can be, floats are 64 bits
wide (NaN and -0.0 survive), a datetime is extension 1, an integer beyond 64 bits extension 2, a registered type
extension 3, a reference to a blob extension 4. Anything else is refused with the path to it.

A step's live result goes through these bytes before the handler sees it, so live and replayed values can't differ.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import msgpack

from . import canonical
from .arguments import expect, expect_call, refused
from .canonical import EXT_BIGINT, EXT_BLOB, EXT_DATETIME, EXT_REGISTERED
from .errors import InvalidInput, StoreError, UnreadableValue
from .limits import MAX_DEPTH_OF_VALUE
from .names import check_name
from .structs import dataclass

SEALED_VALUE = b"\xc1ae"
"""What a sealed value begins with (SPEC.md, "Sealed values"): a byte that msgpack never writes, and two more."""

AROUND = 16
"""Levels that may stand around users' values in what is stored and sent: of commits, records, requests, bundles."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_INT_MIN, _INT_MAX = -(2**63), 2**64 - 1
_PLAIN = frozenset((str, bool, float, bytes, type(None)))
_SIMPLE = _PLAIN | {int}
_AS_IT_IS = _PLAIN - {str}


@dataclass(frozen=True, slots=True)
class BlobRef:
    """Stands in a commit for a value above the host's inline limit, kept in blob keys of its own.

    ``digest`` is the sha256 of the value's canonical bytes, ``size`` their number.
    """

    digest: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Plain:
    """A value that ``Codec.plain`` has made already: it is not walked again."""

    value: Any


def pack(value: Any) -> bytes:
    """Pack what ``Codec.plain`` returned. The one place where msgpack's packing options stand."""
    return _PACK(value)


def _new_packer() -> Callable[[Any], bytes]:
    # One packer for the process: making one costs more than packing a small value. autoreset gives bytes each time.
    return msgpack.Packer(use_bin_type=True, strict_types=True, use_single_float=False).pack  # type: ignore[no-any-return]


_PACK = _new_packer()
# For the digest of a call alone: it takes the tuple of arguments as the list that it is stored as.
_PACK_CALL: Callable[[Any], bytes] = msgpack.Packer(use_bin_type=True, use_single_float=False).pack


def _datetime_ext(value: datetime, path: str) -> msgpack.ExtType:
    if value.tzinfo is None or value.utcoffset() is None:
        raise InvalidInput(
            f"{path} is a datetime without a timezone; give it one, such as datetime.now(UTC)", path=path
        )
    since = value - _EPOCH
    if not _FIRST - _EPOCH <= since <= _LAST - _EPOCH:
        raise InvalidInput(f"{path} is a datetime that in UTC is before the year 1 or after 9999", path=path)
    return msgpack.ExtType(EXT_DATETIME, pack(since // _MICROSECOND))


def _bigint_ext(value: int) -> msgpack.ExtType:
    return msgpack.ExtType(EXT_BIGINT, value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True))


class Codec:
    """Turns values into canonical bytes and back. One instance may be shared by many runtimes.

    ``register`` adds a type of yours, by name; both sides of a move between hosts must register it. ``convert`` is a
    hook for values of a foreign runtime, such as JavaScript proxies under Pyodide: it is called with a value outside
    the profile and its path, and returns one inside the profile or raises InvalidInput.
    """

    def __init__(self, convert: Callable[[Any, str], Any] | None = None) -> None:
        self._by_type: dict[type, tuple[str, Callable[[Any], Any]]] = {}
        self._by_name: dict[str, Callable[[Any], Any]] = {}
        expect_call(convert, "Codec(convert=)", "a function of a value and its path, or None")
        self._convert = convert
        self.blobs_seen = 0
        """How many references to blobs were decoded: says whether looking for them is worth it."""
        self.ext_hook: Callable[[int, bytes], Any] = self._ext_hook  # bound once: decoding is the hot path

    def register(self, cls: type, name: str, to_value: Callable[[Any], Any], from_value: Callable[[Any], Any]) -> None:
        """Store instances of exactly ``cls`` as ``name`` and ``to_value(instance)``; ``from_value`` makes them again.

        A name that is already taken is ERR_INVALID_INPUT. Decoding never imports a class: it only looks names up here.
        """
        expect(cls, type, "Codec.register(cls=)", "a class")
        check_name(name, "the name of a registered type")
        for call, what in ((to_value, "to_value"), (from_value, "from_value")):
            if not callable(call):
                raise refused(f"Codec.register({what}=)", "a function", call)
        if name in self._by_name or cls in self._by_type:
            raise InvalidInput(f"{cls.__name__} or the name {name!r} is registered already; use another name")
        self._by_type[cls] = (name, to_value)
        self._by_name[name] = from_value

    def plain(self, value: Any, path: str = "value") -> Any:
        """``value`` as msgpack can hold it, keys sorted; InvalidInput with the path for what it can't."""
        if type(value) in _PLAIN:
            if type(value) is str and not value.isascii():
                _check_text(value, path)
            return value
        if type(value) is int:
            return value if _INT_MIN <= value <= _INT_MAX else _bigint_ext(value)
        return self._plain(value, path, 0)

    def plain_whole(self, value: Any, path: str = "value") -> Any:
        """As ``plain``, for what holds users' values, each of which was held to its own bounds: it may go deeper."""
        return self._plain(value, path, -AROUND)

    def _plain(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            if kind is str and not value.isascii():
                _check_text(value, path)
            return value
        if kind is int:
            return value if _INT_MIN <= value <= _INT_MAX else _bigint_ext(value)
        if depth >= MAX_DEPTH_OF_VALUE:
            raise InvalidInput(
                f"{_shorten(path)} is nested deeper than {MAX_DEPTH_OF_VALUE} levels; flatten it, or break the cycle",
                limit=MAX_DEPTH_OF_VALUE,
            )
        if kind is dict:
            return self._plain_dict(value, path, depth + 1)
        if kind is list or kind is tuple:
            # Most items are what they are stored as: no call for these, and no path, which only an error shows.
            return [
                item
                if (of := type(item)) in _AS_IT_IS
                or (of is str and item.isascii())
                or (of is int and _INT_MIN <= item <= _INT_MAX)
                else self._plain(item, f"{path}[{i}]", depth + 1)
                for i, item in enumerate(value)
            ]
        if kind is Plain:
            return value.value
        if kind is datetime:
            return _datetime_ext(value, path)
        if kind is BlobRef:
            return msgpack.ExtType(EXT_BLOB, pack([value.digest, value.size]))
        if kind in self._by_type:
            name, to_value = self._by_type[kind]
            inner = self._plain(to_value(value), f"{path}<{name}>", depth + 1)
            return msgpack.ExtType(EXT_REGISTERED, pack([name, inner]))
        if self._convert is not None:
            return self._plain(self._convert(value, path), path, depth + 1)
        raise InvalidInput(_refusal(value, path), path=path, type=_NAME_OF(kind))

    def _plain_dict(self, value: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
        for key in value:
            if type(key) is not str:
                raise InvalidInput(
                    f"{path} has a key of type {type(key).__name__}; map keys must be str: write str(key)", path=path
                )
            if not key.isascii():
                _check_text(key, f"a key of {path}")
        keys = list(value)
        ordered = sorted(keys)
        return {
            key: item
            if (of := type(item := value[key])) in _AS_IT_IS
            or (of is str and item.isascii())
            or (of is int and _INT_MIN <= item <= _INT_MAX)
            else self._plain(item, f"{path}.{key}", depth)
            for key in ordered
        }

    def encode(self, value: Any, path: str = "value") -> bytes:
        """Canonical bytes of ``value``. InvalidInput names the path of what can't be stored."""
        return pack(self.plain(value, path))

    def encode_whole(self, value: Any, path: str = "value") -> bytes:
        """As ``encode``, for what holds users' values: see ``plain_whole``."""
        return pack(self._plain(value, path, -AROUND))

    def decode(self, data: bytes) -> Any:
        """The value of bytes that this kernel wrote. Damaged or sealed ones are ERR_STORE; see ``decode_untrusted``."""
        try:
            return msgpack.unpackb(data, ext_hook=self.ext_hook)
        except InvalidInput:
            raise
        except Exception as error:
            if data[: len(SEALED_VALUE)] == SEALED_VALUE:
                raise UnreadableValue(
                    "this store is sealed, and it was opened without its keys: open its host with "
                    "alkaline_edge.sealing.SealedHost; to the command alkaline give --keys and --tenant",
                    reason="sealed",
                ) from None
            raise StoreError(f"stored bytes are not a canonical value ({type(error).__name__}); restore them") from None

    def decode_untrusted(self, data: bytes, max_bytes: int, around: int = 0) -> Any:
        """The value of bytes from outside: bounded in size, depth and count, and only in canonical form.

        Anything else, or more than ``max_bytes`` of them, is ERR_INVALID_INPUT, before any of it is built: also
        duplicate keys, unsorted keys and long forms, all of which msgpack itself accepts. ``around``: levels that do
        not count, where the bytes hold users' values and are none themselves.
        """
        if len(data) > max_bytes:
            raise InvalidInput(f"{len(data)} bytes were given, at most {max_bytes} are taken", limit=max_bytes)
        canonical.check(data, around)
        try:
            return msgpack.unpackb(data, ext_hook=self._ext_hook)
        except InvalidInput:
            raise
        except Exception as error:
            raise InvalidInput(f"these bytes hold a value outside the profile ({type(error).__name__})") from None

    def check_commit(self, data: bytes) -> None:
        """InvalidInput for a commit from outside that is past a bound, or not in canonical form.

        The levels around the values in it do not count.
        """
        canonical.check(data, AROUND)

    def through(self, value: Any, path: str = "value") -> Any:
        """decode(encode(value)): what a handler may see of ``value``."""
        kind = type(value)
        if (kind in _PLAIN and kind is not str) or (kind is str and value.isascii()):
            return value
        return self.decode(self.encode(value, path))

    def apart(self, value: Any) -> Any:
        """A copy of ``value`` that shares nothing changeable with it; what can't be stored is shared as it is.

        What holds lists, maps, sets or registered types is copied; a value without any costs a look at its type.
        """
        kind = type(value)
        if kind in _SIMPLE:
            return value
        if kind is list:
            return [item if type(item) in _SIMPLE else self.apart(item) for item in value]
        if kind is dict:
            return {key: item if type(item) in _SIMPLE else self.apart(item) for key, item in value.items()}
        if kind is tuple:
            return value if _SIMPLE.issuperset(map(type, value)) else tuple([self.apart(item) for item in value])
        if kind is set or kind is bytearray:
            return kind(value)
        return self.decode(self.encode(value)) if kind in self._by_type else value

    def shown(self, value: Any) -> Any:
        """A copy of ``value`` for people: what can't be stored is named by its type. It never fails."""
        with suppress(Exception):  # nested too deep, or not text somewhere: part by part
            return self.decode(pack(_Lenient(self)._plain(value, "value", 0)))
        if isinstance(value, dict):
            return {self.shown(str(key)): self.shown(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and len(value) < 100:
            return [self.shown(item) for item in value]
        return value.encode("utf-8", "replace").decode() if type(value) is str else f"<{type(value).__name__}>"

    def digest_of_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
        """crc32 of a call's canonical arguments, None where there are none.

        It tells an accident, not an attack: the chain's sha256 does that. Arguments that can't be stored, such as a
        client object, count by the name of their type, since only the difference matters here and nothing is kept.
        """
        if not kwargs and (args[0].__class__ in _SIMPLE if len(args) == 1 else _SIMPLE.issuperset(map(type, args))):
            if not args:
                return None
            try:
                return crc32(_PACK_CALL(args))
            except (OverflowError, UnicodeEncodeError):
                pass  # an integer beyond 64 bits, or what is not text: the long way knows what to do
        lenient = _Lenient(self)
        whole: list[Any] = [lenient._plain(arg, f"argument {i + 1}", 0) for i, arg in enumerate(args)]
        if kwargs:
            whole.append(lenient._plain(kwargs, "arguments", 0))
        return crc32(pack(whole))

    def _ext_hook(self, code: int, data: bytes) -> Any:
        if code == EXT_DATETIME:
            return _EPOCH + timedelta(microseconds=msgpack.unpackb(data))
        if code == EXT_BIGINT:
            return int.from_bytes(data, "big", signed=True)
        if code == EXT_REGISTERED:
            name, inner = msgpack.unpackb(data, ext_hook=self._ext_hook, strict_map_key=True)
            if name not in self._by_name:
                raise InvalidInput(f"the value is of the registered type {name!r}; register it on this codec first")
            return self._by_name[name](inner)
        if code == EXT_BLOB:
            self.blobs_seen += 1
            digest, size = msgpack.unpackb(data)
            return BlobRef(digest, size)
        raise InvalidInput(f"extension {code} is unknown; a newer alkaline_edge wrote it: upgrade to read it")


class _Lenient(Codec):
    """Counts what can't be stored by the name of its type, for ``digest_of_call``."""

    def __init__(self, base: Codec) -> None:
        super().__init__(lambda value, path: f"<{type(value).__module__}.{type(value).__qualname__}>")
        self._by_type = base._by_type

    def _plain_dict(self, value: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
        return super()._plain_dict({key if type(key) is str else str(key): v for key, v in value.items()}, path, depth)


_NAME_OF = vars(type)["__name__"].__get__
"""The name of a class by ``type`` itself: a metaclass may have its own idea."""


def _check_text(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            f"{path} holds a lone surrogate, which is not text; decode it with errors='replace'"
        ) from None


def _shorten(path: str) -> str:
    return path if len(path) <= 120 else f"{path[:60]}...{path[-40:]}"


def _refusal(value: Any, path: str) -> str:
    """Asked of its type alone: what can't be stored may raise whatever it is asked."""
    kind = type(value)
    name = _NAME_OF(kind)
    if name in ("JsProxy", "JsNull", "JsUndefined", "JsException"):
        how = "convert the JavaScript value with alkaline_hosts.javascript.to_python before returning it"
    elif issubclass(kind, (str, int, float, bytes, dict, list, tuple)):
        base = next(t.__name__ for t in (str, int, float, bytes, dict, list, tuple) if issubclass(kind, t))
        how = f"it would come back as a plain {base}: convert it yourself, or register {name} on the codec"
    elif any("__await__" in vars(base) for base in kind.__mro__):
        how = "it was never awaited: await it and return its result"
    else:
        how = f"return plain values, or register {name} on the codec"
    return f"{_shorten(path)} is of type {name}, which a history can't hold; {how}"
