"""What a board keeps beside its tasks: events, how far each subscriber has read, comments and attachments."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from .. import keys
from ..arguments import octets, whole
from ..errors import InvalidInput, NotFound, StoreError
from ..host import Conflict
from ..names import check_name, check_text
from ..runtime.store import Store
from ..runtime.write import Write
from ..structs import dataclass
from .moment import Moment
from .tasks import MAX_ATTACHMENTS, Task

MAX_COMMENT = 16_384
MAX_ATTACHMENT = 64 * 1024 * 1024
_PAGE = 100


@dataclass(frozen=True, slots=True)
class BoardEvent:
    """Something that happened on a board. ``number`` goes up by one with each: the key to count it once by.

    ``kind``: what it was, at ``at``, ms since 1970; ``task``: whose id; ``by``: who asked; ``detail``: more of it.
    """

    number: int
    at: int
    kind: str
    task: str
    by: str | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody, ``by``, said of a task: ``text``, at ``at``, ms since 1970. ``number``: its place."""

    number: int
    at: int
    by: str | None
    text: str


async def events(store: Store, board: str, after: int, limit: int) -> list[BoardEvent]:
    """Up to ``limit`` events behind the one numbered ``after``, in their order."""
    whole(after, "after", 0)
    whole(limit, "limit", 1, 1_000)
    prefix = keys.board(board, "e", "")
    entries = await store.host.list(prefix, prefix + keys.position(after) if after else "", limit)
    try:
        return [
            BoardEvent(*map(store.opened(entry).get, ("n", "at", "kind", "task", "by", "detail"))) for entry in entries
        ]
    except AttributeError:
        raise StoreError(f"an event of board {board!r} is damaged: restore it") from None


async def deliver(store: Store, board: str, subscriber: str, tell: Callable[[BoardEvent], Awaitable[Any]]) -> int:
    """Hand each event that ``subscriber`` has not had to ``tell``, and remember that; how many there were.

    The place is stored behind each page, so after a crash some of a page come again: count them by their number. Of
    two that deliver to one subscriber at a time, one stores its place.
    """
    key = keys.board(board, "s", sha256(check_name(subscriber, "a subscriber").encode()).hexdigest()[:32])
    told = 0
    while True:
        entry = (await store.host.get([key]))[0]
        place = 0 if entry is None else store.opened(entry)[0]
        page = await events(store, board, place, _PAGE)
        for event in page:
            await tell(event)
        if page:
            write = Write({key: None if entry is None else entry.version})
            write.puts[key] = store.codec.encode([page[-1].number, subscriber])
            if isinstance(await store.commit(write), Conflict):
                return told  # another one is at it
        told += len(page)
        if len(page) < _PAGE:
            return told


def comment(moment: Moment, task: Task, text: str) -> None:
    """Add a comment."""
    check_text(text, "a comment", MAX_COMMENT)
    key = keys.board(moment.board, "c", task.id, keys.position(task.comments))
    moment.write.puts[key] = moment.store.codec.encode([moment.now, moment.by, text])
    task.comments += 1
    moment.touch(task)
    moment.tell("comment", task.id, number=task.comments)


async def comments(store: Store, board: str, task: str, after: int, limit: int) -> list[Comment]:
    """Up to ``limit`` comments behind the one numbered ``after``; the first is number 1."""
    whole(after, "after", 0)
    whole(limit, "limit", 1, 1_000)
    prefix = keys.board(board, "c", task, "")
    entries = await store.host.list(prefix, prefix + keys.position(after - 1) if after else "", limit)
    return [Comment(keys.position_of(entry.key) + 1, *store.opened(entry)) for entry in entries]


async def put_chunks(store: Store, board: str, task: str, data: bytes) -> bytes:
    """Write the bytes of an attachment ahead of what names it; their digest. Repeating it is harmless."""
    if len(octets(data, "attach(data=)")) > MAX_ATTACHMENT:
        raise InvalidInput(f"an attachment has {MAX_ATTACHMENT} bytes at most; keep it elsewhere, and attach its place")
    digest = sha256(data).digest()
    size = min(store.limits.max_value, store.limits.max_batch_bytes, 1 << 20) - 1024
    for n, start in enumerate(range(0, len(data), size)):
        key = keys.board(board, "a", task, digest.hex(), keys.position(n))
        await store.commit(Write({}, {key: store.codec.encode(data[start : start + size])}))
    return digest


def attach(moment: Moment, task: Task, name: str, kind: str, data: bytes, digest: bytes) -> None:
    """Name what ``put_chunks`` has written; one of the same name is replaced."""
    left = [each for each in task.attachments if each["name"] != name]
    if len(left) >= MAX_ATTACHMENTS:
        raise InvalidInput(f"task {task.id!r} has {MAX_ATTACHMENTS} attachments already; nothing was written")
    task.attachments = [*left, {"name": name, "type": kind, "size": len(data), "digest": digest, "by": moment.by}]
    moment.touch(task)
    moment.tell("attach", task.id, name=name, size=len(data))


async def attachment(store: Store, board: str, task: Task, name: str) -> bytes:
    """The bytes of an attachment, verified by their digest."""
    found = next((each for each in task.attachments if each["name"] == name), None)
    if found is None:
        raise NotFound(f"task {task.id!r} has no attachment {name!r}", id=task.id)
    prefix = keys.board(board, "a", task.id, found["digest"].hex(), "")
    chunks: list[bytes] = []
    after = ""
    while sum(map(len, chunks)) < found["size"]:
        page = await store.host.list(prefix, after, 16)
        if not page:
            break
        chunks += [store.opened(entry) for entry in page]
        after = page[-1].key
    data = b"".join(chunks)
    if sha256(data).digest() != found["digest"]:
        raise StoreError(f"attachment {name!r} of task {task.id!r} is missing or damaged in the store; restore it")
    return data
