"""``alkaline check``: replay histories against workflows, before these are deployed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import click

from alkaline_edge import AlkalineError, Codec, InvalidInput, NotFound, Runtime, Workflow, replay
from alkaline_edge.errors import UnknownOutcome
from alkaline_edge.replay import Checked
from alkaline_edge.runs import FINISHED, STATUSES

from . import files, output
from .addresses import Address
from .code import codec_of, current_directory, workflows_of
from .junit import write_junit
from .looking import Listed, history_of, page_of_server
from .moving import remote, secrets_named
from .shell import AS_JSON, EXIT_NO, EXIT_USAGE, named, opened_to_read, reported, showing, with_keys

_PAGE = 500
_GOING_ON = tuple(status for status in STATUSES if status not in FINISHED)
_REFUSED = (401, 403)
"""HTTP's answers to whoever may not ask at all."""


@click.command()
@click.argument("histories", nargs=-1, metavar="[HISTORY...]")
@click.option("--store", "--db", "store", envvar="ALKALINE_STORE", show_envvar=True, help="Where the runs are.")
@with_keys
@click.option(
    "--workflows", required=True, multiple=True, metavar="MODULE[:NAME]",
    help="The code to check against: a module, or a workflow or list of workflows in it.",
)  # fmt: skip
@click.option("--codec", metavar="MODULE:NAME", help="The Codec that your types are registered on.")
@click.option("--status", "states", multiple=True, type=click.Choice(STATUSES),
              help="Of a whole store, only runs in this state; without it, those that have not ended.")  # fmt: skip
@click.option("--workflow", help="Of a whole store, only runs of this workflow.")
@click.option(
    "--sample", type=click.IntRange(1), metavar="N",
    help="Of a whole store, at most N runs of each workflow and version, from the shortest to the longest.",
)  # fmt: skip
@click.option("--junit", metavar="FILE", help="Write what was found to FILE as well, in JUnit's form.")
@AS_JSON
@reported
def check(
    histories: Sequence[str],
    store: str | None,
    keys: str | None,
    tenant: str | None,
    workflows: Sequence[str],
    codec: str | None,
    states: Sequence[str],
    workflow: str | None,
    sample: int | None,
    junit: str | None,
    as_json: bool,
) -> None:
    """Replay histories against workflows, without running a step: .alk files, or runs of the store.

    With a store and no HISTORY, all of its runs that have not ended. Of a run that doesn't go on it says at which event
    its code and its history disagree, and what would mend it. MODULE is imported from the current directory, as python
    -m does. Exit code 1 if a history does not fit, 2 if one can't be read.
    """
    place = named(store, keys, tenant)
    if histories and (states or workflow or sample):
        raise InvalidInput("--status, --workflow and --sample choose among the runs of a whole store: name no HISTORY")
    if not histories and place is None:
        raise InvalidInput("say what to check: .alk files, or with --store a whole store or runs in it")
    with contextlib.ExitStack() as stack:
        report = None if junit is None else stack.enter_context(files.written(junit))
        stack.enter_context(current_directory())
        known = [workflow for name in workflows for workflow in workflows_of(name)]
        chosen = None if codec is None else codec_of(codec)
        if histories:
            # One at a time: a thousand histories need not be in memory at once.
            results = [
                one for name in histories for one in replay.check({name: history_of(name, place)}, known, chosen)
            ]
        else:
            assert place is not None
            results = _whole(place, known, chosen, Wanted(states or _GOING_ON, workflow, sample))
        if report is not None:
            report(write_junit(results))
    _shown(results, as_json)
    if any(result.verdict == "unreadable" for result in results):
        raise SystemExit(EXIT_USAGE)
    raise SystemExit(0 if all(result.ok for result in results) else EXIT_NO)


def _shown(results: Sequence[Checked], as_json: bool) -> None:
    if as_json:
        output.print_json([
            {"file": r.name, "verdict": r.verdict, "run": r.run, "workflow": r.workflow, "events": r.events,
             "position": r.position, "message": r.message, "mend": r.mend} for r in results
        ])  # fmt: skip
    elif results:
        output.print_checks(results)
    else:
        output.note("no runs to check")


class Wanted(NamedTuple):
    """Which runs of a store: those in one of ``states``, of ``workflow``, and at most ``sample`` of each kind."""

    states: Collection[str]
    workflow: str | None
    sample: int | None


class _Run(NamedTuple):
    """What is kept of a run until it is checked. ``of``: its workflow and version."""

    id: str
    of: str
    length: int


def _whole(store: Address, known: list[Workflow], codec: Codec | None, wanted: Wanted) -> list[Checked]:
    """Every run of the store that is wanted, one after the other: a history is in memory while it is replayed."""
    results: list[Checked] = []
    with asyncio.Runner() as runner, _opened(runner, store) as stored:
        runs, left_out = runner.run(stored.runs(wanted))
        for run in runs if wanted.sample is None else _sampled(runs, wanted.sample):
            # Outside of the loop: a handler is replayed on a loop of its own.
            try:
                data = runner.run(stored.bundle(run.id))
            except NotFound:
                continue  # deleted meanwhile
            except AlkalineError as error:
                if isinstance(error, UnknownOutcome) or error.detail.get("http") in _REFUSED:
                    raise  # it is not this run: the others can't be had either
                results.append(Checked(run.id, "unreadable", str(error), 0, run.id, run.of))
                continue
            results += replay.check({run.id: data}, known, codec)
    return results + [Checked(id, "unreadable", why, 0) for id, why in sorted(left_out.items())]


def _sampled(runs: Iterable[_Run], most: int) -> list[_Run]:
    """At most ``most`` of each workflow and version, evenly from the shortest history to the longest: the same ones
    each time, so that a check that failed fails again."""
    kinds: dict[str, list[_Run]] = {}
    for run in runs:
        kinds.setdefault(run.of, []).append(run)
    found: list[_Run] = []
    for kind in kinds.values():
        kind.sort(key=lambda run: (run.length, run.id))
        last, gaps = len(kind) - 1, max(1, most - 1)
        places = range(len(kind)) if len(kind) <= most else [(gaps - n) * last // gaps for n in range(most)]
        found += [kind[place] for place in places]
    return sorted(found, key=lambda run: run.id)


class _Stored:
    """A store that is asked for its runs, by its runtime or as a server."""

    def __init__(self, source: Any) -> None:
        self._source = source

    async def runs(self, wanted: Wanted) -> tuple[list[_Run], dict[str, str]]:
        """The runs that are wanted, and why others can't be read. One that went elsewhere is not ours to go on with."""
        found: dict[str, _Run] = {}
        left_out: dict[str, str] = {}
        for status in wanted.states:
            after: str | None = ""
            while after is not None:
                page = await self._page(status, wanted.workflow, after)
                for record in page.records:
                    if record.moved_to is None:
                        of = f"{record.workflow} version {record.version}"
                        found[record.id] = _Run(record.id, of, record.cursor_length)
                left_out.update(page.left_out)
                after = page.after
        return [found[id] for id in sorted(found)], left_out

    async def _page(self, status: str, workflow: str | None, after: str) -> Listed:
        if isinstance(self._source, Runtime):
            page = await self._source.list_executions(status, workflow, None, after, _PAGE)
            return Listed(page.items, page.after, {id: str(error) for id, error in page.unreadable.items()})
        async with secrets_named():
            return page_of_server(await self._source.runs(status, workflow, after, _PAGE))

    async def bundle(self, id: str) -> bytes:
        """A run as a bundle."""
        async with secrets_named():
            data: bytes = await self._source.export(id)
            return data


@contextlib.contextmanager
def _opened(runner: asyncio.Runner, store: Address) -> Iterator[_Stored]:
    stack = contextlib.AsyncExitStack()

    async def begin() -> Any:
        if store.is_server:
            return await stack.enter_async_context(remote(store.url))
        host = opened_to_read(store)
        stack.push_async_callback(host.close)
        return await stack.enter_async_context(Runtime(host, codec=showing()))

    try:
        yield _Stored(runner.run(begin()))
    finally:
        runner.run(stack.aclose())
