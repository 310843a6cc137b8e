"""Conformance: commits, their checks, and races."""

from __future__ import annotations

from ..errors import ClosedError, InvalidInput, StoreError
from ..host import Committed, Conflict, Host, commits_now
from .stage import Skipped, Stage


async def check_of_an_absent_key(stage: Stage) -> None:
    """A check with version None holds where the key is absent, and fails where it is there."""
    host = await stage.host()
    await stage.write(host, {"k/a": b"1"}, checks={"k/a": None})
    await stage.refuse(host, ["k/a"], {"k/a": b"2"}, checks={"k/a": None})
    assert await stage.value(host, "k/a") == b"1", "a conflict overwrote the value"
    await stage.write(host, {"k/b": b"1"}, checks={"k/none": None})
    await stage.refuse(host, ["k/a"], {"k/c": b"1"}, checks={"k/a": None})
    assert await stage.value(host, "k/c") is None, "a conflict on one key wrote another"


async def check_of_a_version(stage: Stage) -> None:
    """A check with a version holds at exactly that version: not an older one, not another's, not an absent key."""
    host = await stage.host()
    first = await stage.write(host, {"k/a": b"1"})
    second = await stage.write(host, {"k/a": b"2"}, checks={"k/a": first})
    await stage.refuse(host, ["k/a"], {"k/a": b"3"}, checks={"k/a": first})
    await stage.refuse(host, ["k/a"], {"k/a": b"3"}, checks={"k/a": stage.new_id()})
    await stage.refuse(host, ["k/none"], {"k/a": b"3"}, checks={"k/none": second})
    assert await stage.value(host, "k/a") == b"2", "a conflict overwrote the value"
    await stage.write(host, {"k/a": b"3"}, checks={"k/a": second})
    assert await stage.value(host, "k/a") == b"3", "a commit whose check holds did not write"


async def same_bytes_are_a_new_version(stage: Stage) -> None:
    """Putting the same bytes again is a new version: the old one no longer passes a check."""
    host = await stage.host()
    first = await stage.write(host, {"k/a": b"same"})
    second = await stage.write(host, {"k/a": b"same"})
    await stage.refuse(host, ["k/a"], {"k/a": b"x"}, checks={"k/a": first})
    await stage.write(host, {"k/a": b"x"}, checks={"k/a": second})


async def every_check_counts(stage: Stage) -> None:
    """One failing check among many, first, in the middle or last, writes nothing and is named."""
    host = await stage.host()
    version = await stage.write(host, {f"k/{n}": b"1" for n in range(4)})
    for bad in range(4):
        checks: dict[str, str | None] = {f"k/{n}": version for n in range(4)}
        checks[f"k/{bad}"] = None
        await stage.refuse(host, [f"k/{bad}"], {"k/new": b"1", "k/0": b"2"}, deletes=["k/3"], checks=checks)
    listed = [(entry.key, entry.value) for entry in await host.list("k/")]
    assert listed == [(f"k/{n}", b"1") for n in range(4)], f"conflicts left {listed}: a conflict must write nothing"
    both: dict[str, str | None] = {"k/0": None, "k/1": stage.new_id(), "k/2": version}
    await stage.refuse(host, ["k/0", "k/1"], {"k/new": b"1"}, checks=both)


async def checks_of_other_keys(stage: Stage) -> None:
    """A check may name a key that the batch does not touch, and that key stays as it was."""
    host = await stage.host()
    fence = await stage.write(host, {"k/fence": b"epoch 1"})
    await stage.write(host, {"k/a": b"1"}, checks={"k/fence": fence})
    entry = await stage.entry(host, "k/fence")
    assert entry is not None, "a check deleted its key"
    assert entry.version == fence, "a check moved its key's version: it must only compare"
    await stage.write(host, {"k/fence": b"epoch 2"}, checks={"k/fence": fence})
    await stage.refuse(host, ["k/fence"], {"k/a": b"2"}, checks={"k/fence": fence})
    assert await stage.value(host, "k/a") == b"1", "a fenced write was applied"


async def a_recreated_key_is_another(stage: Stage) -> None:
    """After delete and put, the version from before the delete no longer passes."""
    host = await stage.host()
    before = await stage.write(host, {"k/a": b"1"})
    await stage.write(host, deletes=["k/a"])
    await stage.refuse(host, ["k/a"], {"k/a": b"2"}, checks={"k/a": before})
    await stage.write(host, {"k/a": b"1"}, checks={"k/a": None})
    await stage.refuse(host, ["k/a"], {"k/a": b"2"}, checks={"k/a": before})


async def puts_overwrite_and_deletes_remove(stage: Stage) -> None:
    """Without checks: put replaces, delete removes from get and list, and deleting an absent key does nothing."""
    host = await stage.host()
    await stage.write(host, {"k/a": b"1", "k/b": b"1"})
    await stage.write(host, {"k/a": b"2"}, deletes=["k/b", "k/never"])
    assert await stage.value(host, "k/a") == b"2", "put did not replace the value"
    assert await stage.value(host, "k/b") is None, "a deleted key is still there"
    assert await stage.keys(host, "k/") == ["k/a"], "a deleted key is still listed"
    await stage.write(host, deletes=["k/never"])
    await stage.write(host, {"k/b": b"3"})
    assert await stage.keys(host, "k/") == ["k/a", "k/b"], "a key put again after its deletion is not listed"


async def delete_put_and_check_together(stage: Stage) -> None:
    """One batch checks, puts and deletes different keys, and may delete a key that it checks."""
    host = await stage.host()
    version = await stage.write(host, {"k/from": b"1", "k/other": b"1"})
    await stage.write(host, {"k/to": b"1"}, deletes=["k/from"], checks={"k/from": version, "k/to": None})
    assert await stage.keys(host, "k/") == ["k/other", "k/to"], "a move by one batch did not move"
    await stage.refuse(host, ["k/from"], {"k/to": b"2"}, deletes=["k/other"], checks={"k/from": version})
    assert await stage.keys(host, "k/") == ["k/other", "k/to"], "a conflict deleted a key"
    await stage.write(host, {"k/from": b"2"}, checks={"k/from": None})


async def a_batch_that_only_checks(stage: Stage) -> None:
    """No puts and no deletes is allowed: the answer says whether the checks hold."""
    host = await stage.host()
    version = await stage.write(host, {"k/a": b"1"})
    await stage.write(host, checks={"k/a": version, "k/b": None})
    await stage.refuse(host, ["k/a"], {}, checks={"k/a": None})
    await stage.write(host)
    entry = await stage.entry(host, "k/a")
    assert entry is not None, "a batch that only checks deleted the key"
    assert entry.version == version, "a batch that only checks moved a version"


async def many_keys_in_one_batch(stage: Stage) -> None:
    """A batch of 300 puts, or as many as the host allows, is one commit with one version, under 100 checks."""
    host = await stage.host()
    count = min(300, host.capabilities.max_batch_keys)
    checks = {f"k/{n:03}": None for n in range(100)} if host.capabilities.checks else None
    version = await stage.write(host, {f"k/{n:03}": b"%d" % n for n in range(count)}, checks=checks)
    listed = await host.list("k/")
    assert [(entry.key, entry.value) for entry in listed] == [(f"k/{n:03}", b"%d" % n) for n in range(count)], (
        f"a batch of {count} puts stored {len(listed)} keys, or mixed their values"
    )
    assert {entry.version for entry in listed} == {version}, "the keys of one batch have different versions"
    await stage.write(host, deletes=[entry.key for entry in listed])
    assert await host.list("k/") == [], f"a batch of {count} deletes left keys behind"


async def checks_are_refused_where_they_cannot_hold(stage: Stage) -> None:
    """A host without conditional commits refuses a batch with checks (StoreError) and writes nothing."""
    host = await stage.host()
    if host.capabilities.checks:
        raise Skipped("this host takes checks")
    await stage.rejected(host, stage.batch({"k/a": b"1"}, checks={"k/a": None}), StoreError, "a batch with a check")


async def one_winner_of_a_race(stage: Stage) -> None:
    """Many commits on one absent key, started together, have exactly one winner, and its bytes are what is stored."""
    host = await stage.host()
    for key in ("k/a", "k/b", "k/c"):
        batches = [stage.batch({key: b"%d" % n, f"{key}/{n}": b"x"}, checks={key: None}) for n in range(16)]
        outcomes = list(await stage.gather(*(host.commit(batch) for batch in batches)))
        await stage.settle(host)
        winners = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Committed)]
        losers = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Conflict)]
        assert len(winners) == 1, (
            f"{len(winners)} of 16 racing commits on one key were committed, expected 1: checks and writes of a batch "
            "must be one indivisible operation"
        )
        assert len(losers) == 15, "a lost race must be a Conflict"
        entry = await stage.entry(host, key)
        assert entry is not None, "the winner of a race left nothing behind"
        assert entry[1:] == (b"%d" % winners[0], batches[winners[0]].id), (
            "the stored value is not the winner's: a loser wrote as well"
        )
        assert await stage.keys(host, f"{key}/") == [f"{key}/{winners[0]}"], "a loser of a race left keys behind"


async def _count_up(stage: Stage, host: Host, times: int) -> int:
    conflicts = 0
    for _ in range(times):
        while True:
            entry = (await host.get(["k/n"]))[0]
            value = 0 if entry is None else int(entry.value)
            version = None if entry is None else entry.version
            batch = stage.batch({"k/n": b"%d" % (value + 1)}, checks={"k/n": version})
            if isinstance(await host.commit(batch), Committed):
                break
            conflicts += 1
            assert conflicts < 10_000, "10,000 conflicts in a row: `get` does not see what was committed"
    return conflicts


async def no_update_is_lost(stage: Stage) -> None:
    """Writers that read, add one and commit with a check lose no update."""
    host = await stage.host()
    await stage.gather(*(_count_up(stage, host, 10) for _ in range(6)))
    total = await stage.value(host, "k/n")
    assert total == b"60", f"6 writers added 10 each and the counter says {total!r}: an update was lost"


async def handles_share_a_store(stage: Stage) -> None:
    """Two handles see each other's commits at once, their checks hold against each other, and updates are not lost."""
    first = await stage.host()
    if first.capabilities.exclusive:
        raise Skipped("only one handle can write: the host is exclusive")
    second = await stage.another(first)
    version = await stage.write(first, {"k/a": b"1"})
    assert await stage.value(second, "k/a") == b"1", "a second handle does not see a commit of the first"
    assert await stage.keys(second, "k/") == ["k/a"], "a second handle does not list a commit of the first"
    await stage.write(second, {"k/a": b"2"}, checks={"k/a": version})
    await stage.refuse(first, ["k/a"], {"k/a": b"3"}, checks={"k/a": version})
    assert await stage.value(first, "k/a") == b"2", "the first handle does not see a commit of the second"
    await stage.gather(*(_count_up(stage, host, 8) for host in (first, second) * 2))
    total = await stage.value(first, "k/n")
    assert total == b"32", f"two handles added 32 and the counter says {total!r}: an update was lost"


async def a_closed_store_keeps_its_data(stage: Stage) -> None:
    """After close, another handle sees all that was committed: values, versions, order, and deletions."""
    host = await stage.host()
    if host.capabilities.durability == "volatile":
        raise Skipped("a volatile host keeps nothing")
    first = await stage.write(host, {f"k/{n}": bytes([n]) * n for n in range(6)})
    second = await stage.write(host, {"k/2": b"two"}, deletes=["k/4"])
    before = await host.list("")
    await host.close()
    again = await stage.another(host)
    after = await again.list("")
    assert after == before, f"after close and reopen the store holds {after}, before it held {before}"
    if again.capabilities.checks:
        await stage.refuse(again, ["k/2"], {"k/2": b"x"}, checks={"k/2": first})
        await stage.write(again, {"k/2": b"x"}, checks={"k/2": second, "k/4": None})


async def a_commit_without_a_wait(stage: Stage) -> None:
    """``commit_now`` does what ``commit`` does, at once: it writes, checks, and refuses what is over a limit."""
    host = await stage.host()
    commit = commits_now(host)
    assert commit is not None, "synchronous=True, and its class has no commit_now beside its commit"
    version: str | None = None
    for n in range(250):  # some may be put off, such as each hundredth
        batch = stage.batch({"k/a": b"%d" % n}, checks={"k/a": version})
        outcome = commit(batch)
        if outcome is None:
            entry = await stage.entry(host, "k/a")
            assert (entry and entry.version) == version, "commit_now returned None, and has written all the same"
            outcome = await host.commit(batch)
        assert outcome == Committed(batch.id), f"commit_now answered {outcome}, where the check holds"
        version = batch.id
        assert await stage.value(host, "k/a") == b"%d" % n, "commit_now did not write"
    for checks in ({"k/a": stage.new_id()}, {"k/a": None}):
        refused = commit(stage.batch({"k/a": b"x", "k/b": b"x"}, checks=checks))
        assert refused in (None, Conflict(("k/a",))), f"commit_now answered {refused}, where a check fails"
    assert await stage.keys(host, "k/") == ["k/a"], "commit_now wrote though a check failed"
    try:
        found = commit(stage.batch({"k/a": b"x", "k/b": bytes(host.capabilities.max_value + 1)}))
    except InvalidInput:
        found = None
    assert found is None, "commit_now took a value over max_value"
    await host.close()
    try:
        found = commit(stage.batch({"k/a": b"x"}))
    except ClosedError:
        found = None
    assert found is None, "commit_now wrote to a host that is closed"
