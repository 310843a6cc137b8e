"""The commands of ``alkaline``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from alkaline_edge import ExecutionRecord, Runtime, __version__, keys, replay
from alkaline_edge.errors import AlkalineError, InvalidInput
from alkaline_edge.runs import STATUSES
from alkaline_edge.runtime.inbox import read_request

from .._http.json import from_json
from .._http.parameters import attribute
from . import output
from .code import codec_of, current_directory, workflows_of
from .moving import asking, at_run, handover, is_remote, sync_
from .serving import serve
from .shell import (
    AS_JSON,
    EXIT_NO,
    EXIT_USAGE,
    Group,
    on_store,
    reading,
    reported,
    showing,
    with_keys,
    writing,
    writing_to_run,
)  # fmt: skip
from .stores import Store

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def alkaline() -> None:
    """Look at durable runs, move them, and check their histories.

    STORE is a file's path, or a URL such as postgresql://... or redis://...; leave it out where --store or the
    variable ALKALINE_STORE names one. signal, cancel, pause, resume, delete, export, import, handover and sync also
    take the http(s) URL of a server.

    A sealed store opens with --keys FILE and --tenant NAME, or ALKALINE_KEYS and ALKALINE_TENANT. FILE has a line
    ID=<64 hexadecimal digits> for each key, the one that seals first. Bundles are written and read plain.

    Exit codes: 0 done, 1 the answer is no (diff, check), 2 usage or input, 3 the store, 4 not found.
    """


@alkaline.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only runs in this state.")
@click.option("--workflow", help="Only runs of this workflow.")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME=VALUE", help="Only runs with this attribute.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--after", default="", help="Go on behind this place, which an earlier page gave.")
@AS_JSON
@reported
@on_store()
def list_(
    store: Store,
    status: str | None,
    workflow: str | None,
    attributes: Sequence[str],
    limit: int,
    after: str,
    as_json: bool,
) -> None:
    """List the runs of a store, by id."""
    wanted = dict(attribute(text, "--attribute") for text in attributes)
    page = reading(
        store, lambda runtime: runtime.list_executions(status, workflow, wanted or None, after, limit), showing()
    )
    if as_json:
        output.print_json({"runs": [output.plain_record(r) for r in page.items], "after": page.after})
        return
    output.print_runs(page.items)
    if page.after is not None:
        output.note(f"more: --after {page.after}")


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def show(store: Store, run: str, as_json: bool) -> None:
    """Show one run: its status, what it waits for, what it spent, its result."""
    record, asked = reading(store, lambda runtime: _looked_at(runtime, run), showing())
    if as_json:
        output.print_json({**output.plain_record(record), "requests": asked})
    else:
        output.print_record(record, asked)


async def _looked_at(runtime: Runtime, run: str) -> tuple[ExecutionRecord, list[str]]:
    """A run's record, and the requests that no owner of it has taken up yet."""
    record = await runtime.get_execution(run)
    entries = [] if record.finished else await runtime.host.list(keys.requests(run), "", 20)
    requests = [read_request(entry, runtime.codec) for entry in entries]
    return record, [f"{request.kind} {request.name}".strip() for request in requests]


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def events(store: Store, run: str, as_json: bool) -> None:
    """Show the history of a run, an event a line."""
    recorded = reading(store, lambda runtime: runtime.history(run), showing())
    if as_json:
        output.print_json([output.plain_event(n, r) for n, r in enumerate(recorded)])
    else:
        output.print_events(recorded)


@alkaline.command()
@click.option("--handoff", is_flag=True, help="Freeze the run here: it goes on where the bundle is imported.")
@AS_JSON
@reported
@on_store("RUN", "FILE")
def export(store: Store, run: str, file: str, handoff: bool, as_json: bool) -> None:
    """Write a run to FILE, an .alk bundle."""
    target = Path(file)
    if target.is_dir() or not target.parent.is_dir():
        raise InvalidInput(
            f"{file} can't be written: {'it' if target.is_dir() else target.parent} is "
            f"{'a' if target.is_dir() else 'no'} directory; name a file"
        )
    temporary = target.with_name(target.name + ".part")
    temporary.touch()  # before a hand-over freezes the run: a place that can't be written must not cost anything
    try:
        if is_remote(store):
            data = asking(store, lambda server: server.export(run, handoff))
        elif handoff:
            data = writing_to_run(store, run, lambda runtime: runtime.export(run, True))
        else:
            data = reading(store, lambda runtime: runtime.export(run))
        temporary.write_bytes(data)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    if as_json:
        output.print_json({"run": run, "file": file, "bytes": len(data), "handoff": handoff})
    else:
        output.say(f"{run}: {len(data):,} bytes written to {file}" + (", and frozen here" if handoff else ""))


@alkaline.command("import")
@click.option("--take-over", is_flag=True, help="The run may go on here at once; otherwise it is a paused copy.")
@AS_JSON
@reported
@on_store("FILE")
def import_(store: Store, file: str, take_over: bool, as_json: bool) -> None:
    """Store the run of FILE, an .alk bundle."""
    mode, data = "take_over" if take_over else "copy", Path(file).read_bytes()
    try:
        replay.read(data, showing())  # before a store is made for what is no bundle
    except AlkalineError as error:
        error.args = (f"{file} can't be imported: {error}",)
        raise
    if is_remote(store):
        id = asking(store, lambda server: server.import_(data, mode))
    else:
        id = writing(store, lambda runtime: runtime.import_(data, mode)).id
    if as_json:
        output.print_json({"run": id, "mode": mode})
    else:
        output.say(f"{id}: imported, {'it may go on' if take_over else 'paused until alkaline resume lets it go on'}")


@alkaline.command()
@click.argument("a")
@click.argument("b")
@click.option("--store", envvar="ALKALINE_STORE", show_envvar=True, help="Where an A or B that is no file is a run.")
@with_keys
@AS_JSON
@reported
def diff(a: str, b: str, store: str | None, keys: str | None, tenant: str | None, as_json: bool) -> None:
    """Compare two histories, each an .alk file or a run of the store. Exit code 1 when they differ."""
    place = None if store is None else Store(store, keys, tenant)
    found = replay.diff(_history(a, place), _history(b, place), showing())
    if as_json:
        changes = [{n: getattr(c, n) for n in ("kind", "a", "b", "text_a", "text_b", "where")} for c in found.changes]
        output.print_json(
            {"same": found.same, "common": found.common, "renumbered": found.renumbered, "changes": changes}
        )
    else:
        output.print_diff(found)
    raise SystemExit(0 if found.same else EXIT_NO)


def _history(name: str, store: Store | None) -> replay.Source:
    if Path(name).is_file():
        return Path(name).read_bytes()
    if store is None:
        raise InvalidInput(f"there is no file {name}; for a run of a store, say which with --store")
    recorded: replay.Source = reading(store, lambda runtime: runtime.history(name), showing())
    return recorded


@alkaline.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option(
    "--workflows", required=True, multiple=True, metavar="MODULE[:NAME]",
    help="The code to check against: a module, or a workflow or list of workflows in it.",
)  # fmt: skip
@click.option("--codec", metavar="MODULE:NAME", help="The Codec that your types are registered on.")
@AS_JSON
@reported
def check(files: Sequence[Path], workflows: Sequence[str], codec: str | None, as_json: bool) -> None:
    """Replay .alk FILES against workflows, without running a step.

    MODULE is imported from the current directory, as python -m does. Exit code 1 if a history does not fit, 2 if one
    can't be read.
    """
    with current_directory():
        known = [workflow for name in workflows for workflow in workflows_of(name)]
        chosen = None if codec is None else codec_of(codec)
        # One at a time: a thousand histories need not be in memory at once.
        results = [
            one for file in files for one in replay.check({str(file): file.read_bytes()}, known, chosen)
        ]  # fmt: skip
    if as_json:
        output.print_json([
            {"file": r.name, "verdict": r.verdict, "run": r.run, "workflow": r.workflow, "events": r.events,
             "message": r.message} for r in results
        ])  # fmt: skip
    else:
        output.print_checks(results)
    if any(result.verdict == "unreadable" for result in results):
        raise SystemExit(EXIT_USAGE)
    raise SystemExit(0 if all(result.ok for result in results) else EXIT_NO)


@alkaline.command()
@click.option("--dedupe", help="The same key counts once, however often it is sent.")
@AS_JSON
@reported
@on_store("RUN", "NAME", "PAYLOAD", optional=1)
def signal(store: Store, run: str, name: str, payload: str | None, dedupe: str | None, as_json: bool) -> None:
    """Send the signal NAME to a run, with PAYLOAD, which is JSON."""
    try:
        value = None if payload is None else from_json(payload, "the payload", python=True)
    except InvalidInput as error:
        hint = "" if payload is None or payload[:1] in '{["' else f"; quote a text: '\"{payload[:200]}\"'"
        raise InvalidInput(f"{error}{hint}") from None
    at_run(store, run, lambda runs: runs.signal(run, name, value, dedupe))
    _said(as_json, f"{run}: signal {name} is recorded; the run takes it when a runtime goes on with it", run)


@alkaline.command()
@click.option("--reason", help="Why; it is kept in the history.")
@AS_JSON
@reported
@on_store("RUN")
def cancel(store: Store, run: str, reason: str | None, as_json: bool) -> None:
    """Ask for a run's end: it cleans up, and is cancelled."""
    at_run(store, run, lambda runs: runs.cancel(run, reason))
    _said(as_json, f"{run}: asked to end; it cleans up when a runtime goes on with it", run)


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def pause(store: Store, run: str, as_json: bool) -> None:
    """Ask for a pause: what is in flight ends, and nothing new starts until the run is resumed."""
    at_run(store, run, lambda runs: runs.pause(run))
    _said(as_json, f"{run}: asked to pause; it stops when what is in flight has ended", run)


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def resume(store: Store, run: str, as_json: bool) -> None:
    """Let a paused run go on: one that was paused, imported as a copy, or forked."""
    at_run(store, run, lambda runs: runs.resume(run))
    _said(as_json, f"{run}: may go on, and does when a runtime that has its workflow takes it up", run)


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def delete(store: Store, run: str, as_json: bool) -> None:
    """Delete a run that has ended, and all that belongs to it; cancel one first that has not."""
    at_run(store, run, lambda runs: runs.delete(run))
    if as_json:
        output.print_json({"run": run, "deleted": True})
    else:
        output.say(f"{run}: deleted")


def _said(as_json: bool, text: str, run: str) -> None:
    if as_json:
        output.print_json({"run": run, "recorded": True})
    else:
        output.say(text)


for _command in (handover, sync_, serve):
    alkaline.add_command(_command)
