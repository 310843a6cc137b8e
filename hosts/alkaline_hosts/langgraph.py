"""A checkpointer of LangGraph on any host, also in a page and in a Worker: the extra ``langgraph``.

graph = builder.compile(checkpointer=HostSaver(IndexedDBHost("graphs")))
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any
from urllib.parse import quote, unquote

try:
    from langgraph.checkpoint.base import (
        WRITES_IDX_MAP,
        BaseCheckpointSaver,
        CheckpointTuple,
        get_checkpoint_id,
        get_checkpoint_metadata,
        writes_sort_key,
    )
except ImportError as error:
    raise ImportError("the checkpointer of LangGraph needs an extra: pip install 'alkaline-edge[langgraph]'") from error

from alkaline_edge.codec import Codec
from alkaline_edge.host import Batch, Host, Put

__all__ = ["HostSaver"]

_PAGE = 500
_CODEC = Codec()


class HostSaver(BaseCheckpointSaver[str]):
    """Keeps the checkpoints of LangGraph's threads in a host, beside whatever else is there.

    ``host`` is an open one, which stays its caller's to close; ``serde`` is LangGraph's own choice of how values become
    bytes. Async only: ``ainvoke``, ``astream``, ``aget_state``. A checkpoint is one batch with the values that are new
    in it, so it is there whole or not at all; what was written twice is written once. ERR_INVALID_INPUT of the host: a
    value is larger than it takes.
    """

    def __init__(self, host: Host, *, serde: Any = None) -> None:
        super().__init__(serde=serde)
        self._host = host

    # --- writing ---------------------------------------------------------------------------------------------------
    async def aput(self, config: Any, checkpoint: Any, metadata: Any, new_versions: Any) -> Any:
        """As BaseCheckpointSaver.aput."""
        thread, ns, parent = _place(config)
        plain = dict(checkpoint)
        values = plain.pop("channel_values")
        puts = [
            Put(_key("b", thread, ns, name, str(version)), self._packed(values[name]))
            for name, version in new_versions.items()
            if name in values
        ]
        said = get_checkpoint_metadata(config, metadata)
        entry = [self._packed(plain), self._packed(said), parent]
        await self._commit([*puts, Put(_key("c", thread, ns, checkpoint["id"]), _CODEC.encode(entry))])
        return _config(thread, ns, checkpoint["id"])

    async def aput_writes(
        self, config: Any, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """As BaseCheckpointSaver.aput_writes: of a task's writes the first of each counts, of its errors the last.

        ``task_path`` is where the task stands in the graph: writes come back in that order.
        """
        thread, ns, id = _place(config)
        numbers = [WRITES_IDX_MAP.get(channel, number) for number, (channel, _) in enumerate(writes)]
        keys = [_key("w", thread, ns, str(id), task_id, str(number)) for number in numbers]
        there = await self._host.get(keys)
        puts = {
            key: Put(key, _CODEC.encode([task_id, number, task_path, channel, self._packed(value)]))
            for key, number, found, (channel, value) in zip(keys, numbers, there, writes, strict=True)
            if found is None or number < 0
        }
        await self._commit(puts.values())

    async def adelete_thread(self, thread_id: str) -> None:
        """As BaseCheckpointSaver.adelete_thread."""
        for kind in ("c", "w", "b"):
            await self._delete([key async for key, _ in self._below(kind, thread_id)])

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """As BaseCheckpointSaver.adelete_for_runs: whatever the metadata names one of them as its run."""
        wanted = set(run_ids)
        found = [(_parts(key)[2:], _CODEC.decode(value)) async for key, value in self._below("c")]
        for place, entry in found:
            if self._loaded(entry[1]).get("run_id") in wanted:
                await self._forget(*place)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """As BaseCheckpointSaver.acopy_thread; checkpoints come last, so that none is there without its values."""
        for kind in ("b", "w", "c"):
            async for key, value in self._below(kind, source_thread_id):
                await self._commit([Put(_key(kind, target_thread_id, *_parts(key)[3:]), value)])

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """As BaseCheckpointSaver.aprune: by ``strategy`` each namespace keeps its newest checkpoint, or nothing is."""
        for thread in thread_ids:
            if strategy == "delete":
                await self.adelete_thread(thread)
                continue
            places = [_parts(key)[2:] async for key, _ in self._below("c", thread)]
            newest = {ns: id for _, ns, id in places}
            for _, ns, id in places:
                if newest[ns] != id:
                    await self._forget(thread, ns, id)

    async def _forget(self, thread: str, ns: str, id: str) -> None:
        """One checkpoint and its writes. Its values stay until the thread is deleted: others may have them too."""
        writes = [key async for key, _ in self._below("w", thread, ns, id)]
        await self._delete([_key("c", thread, ns, id), *writes])

    # --- reading ---------------------------------------------------------------------------------------------------
    async def aget_tuple(self, config: Any) -> CheckpointTuple | None:
        """As BaseCheckpointSaver.aget_tuple."""
        thread, ns, id = _place(config)
        if id is None:
            last = [key async for key, _ in self._below("c", thread, ns)][-1:]
            if not last:
                return None
            id = _parts(last[0])[-1]
        (entry,) = await self._host.get([_key("c", thread, ns, id)])
        return None if entry is None else await self._tuple(thread, ns, id, _CODEC.decode(entry.value))

    async def alist(
        self, config: Any, *, filter: dict[str, Any] | None = None, before: Any = None, limit: int | None = None
    ) -> AsyncIterator[CheckpointTuple]:
        """As BaseCheckpointSaver.alist: the newest first, ``limit`` of them; ``filter`` is of their metadata.

        ``before`` is the config of a checkpoint, of which those come that are older.
        """
        within = (config or {}).get("configurable", {})
        given = [within["thread_id"]] if "thread_id" in within else []
        if given and within.get("checkpoint_ns") is not None:
            given.append(within["checkpoint_ns"])
        only = get_checkpoint_id(config) if config else None
        until = get_checkpoint_id(before) if before else None
        found = [(_parts(key)[-3:], value) async for key, value in self._below("c", *given)]
        for (thread, ns, id), value in sorted(found, key=lambda each: each[0][2], reverse=True):
            if (only and id != only) or (until and id >= until):
                continue
            entry = _CODEC.decode(value)
            metadata = self._loaded(entry[1])
            if filter and any(metadata.get(name) != wanted for name, wanted in filter.items()):
                continue
            if limit is not None:
                if limit <= 0:
                    return
                limit -= 1
            yield await self._tuple(thread, ns, id, entry)

    async def _tuple(self, thread: str, ns: str, id: str, entry: Any) -> CheckpointTuple:
        plain, parent = self._loaded(entry[0]), entry[2]
        versions = plain["channel_versions"]
        blobs = await self._host.get([_key("b", thread, ns, name, str(version)) for name, version in versions.items()])
        values = {
            name: self._loaded(_CODEC.decode(blob.value))
            for name, blob in zip(versions, blobs, strict=True)
            if blob is not None
        }
        writes = [_CODEC.decode(value) async for _, value in self._below("w", thread, ns, id)]
        writes.sort(key=lambda each: writes_sort_key(each[2], each[0], each[1]))
        checkpoint: Any = {**plain, "channel_values": values}
        return CheckpointTuple(
            config=_config(thread, ns, id),
            checkpoint=checkpoint,
            metadata=self._loaded(entry[1]),
            parent_config=_config(thread, ns, parent) if parent else None,
            pending_writes=[(task, channel, self._loaded(packed)) for task, _, _, channel, packed in writes],
        )

    # --- the host --------------------------------------------------------------------------------------------------
    async def _below(self, *parts: str) -> AsyncIterator[tuple[str, bytes]]:
        prefix, after = f"{_key(*parts)}/", ""
        while page := await self._host.list(prefix, after, _PAGE):
            for entry in page:
                yield entry.key, entry.value
            after = page[-1].key

    async def _commit(self, puts: Iterable[Put]) -> None:
        await self._host.commit(Batch(self._host.entropy(8).hex(), (), tuple(puts), ()))

    async def _delete(self, keys: list[str]) -> None:
        for start in range(0, len(keys), _PAGE):
            await self._host.commit(Batch(self._host.entropy(8).hex(), (), (), tuple(keys[start : start + _PAGE])))

    def _packed(self, value: Any) -> bytes:
        kind, data = self.serde.dumps_typed(value)
        return _CODEC.encode([kind, bytes(data)])

    def _loaded(self, packed: Any) -> Any:
        kind, data = _CODEC.decode(packed) if isinstance(packed, bytes) else packed
        return self.serde.loads_typed((kind, data))


def _place(config: Any) -> tuple[str, str, str | None]:
    within = config["configurable"]
    return str(within["thread_id"]), within.get("checkpoint_ns", ""), get_checkpoint_id(config)


def _config(thread: str, ns: str, id: str) -> Any:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, "checkpoint_id": id}}


def _key(*parts: str) -> str:
    """Keys are ASCII, and no part has a / in it."""
    return "/".join(["langgraph", *(quote(part, safe="") for part in parts)])


def _parts(key: str) -> list[str]:
    return [unquote(part) for part in key.split("/")]
