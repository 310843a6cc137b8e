"""The commands of ``alkaline`` that set runs going and listen to them: start, query, update, fork, tail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from alkaline_edge import Context, InvalidInput, Recorded, Runtime, Workflow
from alkaline_edge import events as ev
from alkaline_edge.runtime.following import Followed

from .._http.json import from_json
from .._http.parameters import attribute
from .._http.runs import RunsApi
from . import output
from .addresses import Address
from .code import code_of
from .looking import recorded_of
from .moving import asking, at_run, remote, secrets_named
from .shell import AS_JSON, on_store, opened_to_read, reading, reported, showing, writing

_CODE = click.option(
    "--workflows", "names", multiple=True, metavar="MODULE[:NAME]",
    help="The code of a store's runs: a module, or a workflow or list of workflows in it. A server has its own.",
)  # fmt: skip
_CODEC = click.option("--codec", metavar="MODULE:NAME", help="The Codec that your types are registered on.")


def _json(text: str | None, what: str) -> Any:
    if text is None:
        return None
    try:
        return from_json(text, what, python=True)
    except InvalidInput as error:
        hint = "" if text[:1] in '{["' else f"; quote a text: '\"{text[:200]}\"'"
        raise InvalidInput(f"{error}{hint}") from None


async def _never(ctx: Context) -> None:
    raise AssertionError("what is recorded here is run elsewhere")


def _with_code(on: Any, store: Address, names: Sequence[str], codec: str | None, work: Any) -> Any:
    """What ``work`` returns of a runtime that has the code; ``on``: ``reading`` or ``writing``."""
    if not names:
        raise InvalidInput("name the code of the run with --workflows MODULE, or give the URL of a server that has it")
    workflows, chosen = code_of(names, codec)
    return on(store, work, chosen, workflows)


def _no_code(store: Address, names: Sequence[str]) -> None:
    if store.is_server and names:
        raise InvalidInput("a server runs its own code: leave out --workflows")


@click.command()
@_CODE
@_CODEC
@click.option("--id", "run", help="The run's id; without it, a random one.")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME=VALUE", help="What the run is found by.")
@click.option("--at", metavar="TIME", help="Not before: an ISO time with its offset.")
@click.option("--version", default=1, show_default=True, type=click.IntRange(0), help="Without code: its version.")
@AS_JSON
@reported
@on_store("WORKFLOW", "INPUT", optional=1)
def start(
    store: Address,
    workflow: str,
    input: str | None,
    names: Sequence[str],
    codec: str | None,
    run: str | None,
    attributes: Sequence[str],
    at: str | None,
    version: int,
    as_json: bool,
) -> None:
    """Start a run of WORKFLOW with INPUT, which is JSON.

    On a store without --workflows it is recorded, and begins when a runtime that has its workflow serves the store;
    with it, it is run here until it has finished or waits for something.
    """
    _no_code(store, names)
    given: dict[str, Any] = {
        "input": _json(input, "the input"), "id": run, "start_at": at,
        "attributes": dict(attribute(text, "--attribute") for text in attributes) or None,
    }  # fmt: skip
    if store.is_server:
        record = asking(store, lambda server: server.start(workflow, **given))
    elif names:
        record = _with_code(
            writing, store, names, codec, lambda runtime: RunsApi(runtime).start(workflow, settle=True, **given)
        )
    else:
        known = Workflow(_never, workflow, version)
        record = writing(store, lambda runtime: _recorded(runtime, workflow, given), None, [known])
    if as_json:
        output.print_json(record)
    else:
        output.say(f"{record['id']}: {_how(record)}")


async def _recorded(runtime: Runtime, name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Record a run that begins elsewhere: a moment from now, so that nobody drives it here."""
    soon = datetime.fromtimestamp(runtime.host.now_ms() / 1000, UTC) + timedelta(seconds=1)
    return await RunsApi(runtime).start(name, **{**given, "start_at": given["start_at"] or soon})


def _how(record: dict[str, Any]) -> str:
    waits = f", waits for {', '.join(record['waiting'])}" if record.get("waiting") else ""
    failure = record.get("failure")
    why = f", {failure['type']}: {failure['message']}" if isinstance(failure, dict) else ""
    return f"{record['status']}{waits}{why}"


@click.command()
@_CODE
@_CODEC
@AS_JSON
@reported
@on_store("RUN", "NAME", "ARGUMENTS", optional=1)
def query(
    store: Address, id: str, name: str, arguments: str | None, names: Sequence[str], codec: str | None, as_json: bool
) -> None:
    """Ask a run its query NAME, with ARGUMENTS, a JSON list; print what it answers as JSON. Changes nothing."""
    _no_code(store, names)
    args = _json(arguments, "the arguments")
    if args is not None and not isinstance(args, list):
        raise InvalidInput("ARGUMENTS is a JSON list, such as '[1, \"two\"]'")
    if store.is_server:
        output.print_json(asking(store, lambda server: server.query(id, name, *(args or ()))))
        return
    output.print_json(_with_code(reading, store, names, codec, lambda runtime: runtime.query(id, name, *(args or ()))))


@click.command()
@_CODE
@_CODEC
@AS_JSON
@reported
@on_store("RUN", "NAME", "PAYLOAD", optional=1)
def update(
    store: Address, id: str, name: str, payload: str | None, names: Sequence[str], codec: str | None, as_json: bool
) -> None:
    """Send the update NAME to a run, with PAYLOAD, which is JSON, and print its reply as JSON."""
    _no_code(store, names)
    value = _json(payload, "the payload")
    if store.is_server:
        output.print_json(asking(store, lambda server: server.update(id, name, value)))
    else:
        output.print_json(_with_code(writing, store, names, codec, lambda runtime: _updated(runtime, id, name, value)))


async def _updated(runtime: Runtime, id: str, name: str, value: Any) -> Any:
    reply = await runtime.update(id, name, value)
    await runtime.settle(id)
    return reply


@click.command()
@click.option("--edit", metavar="JSON", help='Other results, by command id, or another "input": {"2": "what it gave"}.')
@click.option("--resume", "resumes", is_flag=True, help="Let it go on at once; otherwise it is paused.")
@AS_JSON
@reported
@on_store("RUN", "COMMITS")
def fork(store: Address, id: str, commits: str, edit: str | None, resumes: bool, as_json: bool) -> None:
    """Make a new run of the first COMMITS of a run's history: `alkaline events` numbers them from 0."""
    if not commits.isascii() or not commits.isdigit() or len(commits) > 9:
        raise InvalidInput(f"COMMITS is how many commits of the history are kept, a number, not {commits[:20]!r}")
    changes = _json(edit, "--edit")
    made = at_run(store, id, lambda runs: runs.fork(id, int(commits), changes))
    if resumes:
        at_run(store, made["id"], lambda runs: runs.resume(made["id"]))
    if as_json:
        output.print_json({"run": made["id"], "of": id, "commits": int(commits), "resumed": resumes})
    else:
        how = "it may go on" if resumes else "paused until alkaline resume lets it go on"
        output.say(f"{made['id']}: forked of {id} at {commits} commits, {how}")


# --- listening ------------------------------------------------------------------------------------------------------
@click.command()
@click.option("--after", default="", metavar="PLACE", help="Only what stands behind this place, which --json gives.")
@click.option("--every", default=1.0, show_default=True, type=click.FloatRange(0.05, 3600),
              help="Seconds between looks at a store whose host can't tell that something came.")  # fmt: skip
@AS_JSON
@reported
@on_store("RUN")
def tail(store: Address, id: str, after: str, every: float, as_json: bool) -> None:
    """Follow a run: each event as it is recorded, until the run ends. Exit code 1 if it failed or was cancelled."""
    last = asyncio.run(_followed(store, id, after, every, as_json))
    raise SystemExit(1 if last in (ev.FAILED, ev.CANCELLED) else 0)


async def _followed(store: Address, id: str, after: str, every: float, as_json: bool) -> int:
    tell, last = _Told(as_json), -1
    if store.is_server:
        async with remote(store.url) as server, secrets_named():
            async for shown in server.stream(id, after):
                if "place" in shown:
                    one = recorded_of(shown)
                    last = tell(one, shown["place"])
        return last
    host = opened_to_read(store)
    try:
        async with Runtime(host, codec=showing(), poll=every) as runtime:
            async for each in runtime.follow(id, after):
                if isinstance(each, Followed):
                    last = tell(Recorded(each.commit, each.at, each.event), each.place)
    finally:
        await host.close()
    return last


class _Told:
    """Prints one event after the other."""

    def __init__(self, as_json: bool) -> None:
        self._as_json, self._before = as_json, 0
        self._count = 0

    def __call__(self, recorded: Recorded, place: str) -> int:
        kind: int = recorded.event[0]
        if self._as_json:
            output.print_json_line({"place": place, **output.plain_event(self._count, recorded)})
        else:
            output.print_event(recorded, self._before or recorded.at)
        self._before = recorded.at
        self._count += 1
        return kind
