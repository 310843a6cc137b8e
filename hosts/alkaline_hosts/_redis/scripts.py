"""What the Redis host keeps and how: two keys, and two Lua scripts that each read or write as one.

``{name}:values`` is a hash of key -> id of the batch (16 bytes) + value; its field "", which is no key, holds FORMAT.
``{name}:keys`` is the index: a sorted set of the same keys, all of score 0, so that its order is that of their bytes.
The braces are Redis Cluster's: what stands in them decides the slot, so both are on one node.

A script runs alone, and is undone by nobody: neither Lua nor MULTI rolls back. So a commit first reads whatever could
be wrong, and then tries each command that it will write with on a key that is in no store, which changes nothing, but
is refused for all that a server refuses a write for: memory, a full disk, a replica, missing replicas, the user's
rights. A server that has let one write of a script pass refuses none of the others, as far as these go. Only then it
writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1

from alkaline_edge.host import Batch

from .._ranges import bounds

FORMAT = b"1"
"""Of the two keys. An older version of this package leaves a store with a newer one alone."""
OK, CONFLICT, NEWER, DAMAGED, GONE = b"ok", b"conflict", b"newer", b"damaged", b"gone"
"""How a script's answer begins."""
MOST = 2**31 - 1

_BEGIN = """
local values, index = KEYS[1], KEYS[2]
local format = redis.call('HGET', values, '')
local kept = redis.call('HLEN', values)
if format and format ~= ARGV[1] then
  return {'newer', format}
end
if redis.call('ZCARD', index) ~= (format and kept - 1 or 0) or (not format and kept > 0) then
  return {'damaged'}
end
if not format and ARGV[2] == 'seen' then
  return {'gone'}
end
"""

_COMMIT = """
local checks, puts, deletes = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local at = 8
local failed = {'conflict'}
for n = at, at + 2 * checks - 2, 2 do
  local found = redis.call('HGET', values, ARGV[n])
  if (found and string.sub(found, 1, 16) or '') ~= ARGV[n + 1] then
    failed[#failed + 1] = ARGV[n]
  end
end
if #failed > 1 then
  return failed
end
at = at + 2 * checks
if puts > 0 then
  redis.call('ZADD', index, 'XX', 0, '')
end
if deletes > 0 then
  redis.call('ZREM', index, '')
  redis.call('HDEL', values, ' ')
end
if puts > 0 and not format then
  redis.call('HSET', values, '', ARGV[1])
end
for n = at, at + 2 * puts - 2, 2 do
  if redis.call('HSET', values, ARGV[n], ARGV[n + 1]) == 1 then
    redis.call('ZADD', index, 0, ARGV[n])
  end
end
at = at + 2 * puts
for n = at, at + deletes - 1 do
  if redis.call('HDEL', values, ARGV[n]) == 1 then
    redis.call('ZREM', index, ARGV[n])
  end
end
if ARGV[7] ~= '' then
  redis.pcall('PUBLISH', ARGV[6], ARGV[7])
end
return {'ok'}
"""

_LIST = """
local keys = redis.call('ZRANGEBYLEX', index, ARGV[3], ARGV[4], 'LIMIT', 0, ARGV[5])
local found = {'ok'}
for first = 1, #keys, 1000 do
  local part = redis.call('HMGET', values, unpack(keys, first, math.min(first + 999, #keys)))
  for n, value in ipairs(part) do
    if not value then
      return {'damaged'}
    end
    found[#found + 1] = keys[first + n - 1]
    found[#found + 1] = value
  end
end
return found
"""


class Script:
    """A script's source, and the digest by which the server that has seen it knows it."""

    def __init__(self, *parts: str) -> None:
        self.source = "".join(parts).strip().encode()
        self.digest = sha1(self.source).hexdigest().encode()  # noqa: S324  # the name that Redis gives it


COMMIT = Script(_BEGIN, _COMMIT)
LIST = Script(_BEGIN, _LIST)


class Keys:
    """The keys of the store ``name``, and the channel of its notices."""

    def __init__(self, name: str) -> None:
        self.values, self.index, self.channel = (
            f"{{{name}}}:{part}".encode() for part in ("values", "keys", "notices")
        )


def seen(there: bool) -> bytes:
    """The argument by which a script knows that the store must be there."""
    return b"seen" if there else b""


def commit_arguments(batch: Batch, there: bool, channel: bytes, notice: bytes) -> Sequence[bytes | int]:
    """The arguments of COMMIT. ``notice``: what is published with it; nothing where empty."""
    id, checks, puts, deletes = batch
    version = id.encode()
    arguments: list[bytes | int] = [FORMAT, seen(there), len(checks), len(puts), len(deletes), channel, notice]
    for key, wanted in checks:
        # No stored version is "-", so a check of the version "" fails, as it would anywhere, and is not one of absence.
        arguments += (key.encode(), b"" if wanted is None else wanted.encode() or b"-")
    for key, value in puts:
        arguments += (key.encode(), b"".join((version, value)))
    arguments += [key.encode() for key in deletes]
    return arguments


def list_arguments(prefix: str, after: str, limit: int, there: bool) -> Sequence[bytes | int]:
    """The arguments of LIST."""
    start, inclusive, end = bounds(prefix, after)
    return [FORMAT, seen(there), f"{'[' if inclusive else '('}{start}".encode(), f"({end}".encode(), min(limit, MOST)]
