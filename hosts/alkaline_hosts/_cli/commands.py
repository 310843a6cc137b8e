"""The commands of ``alkaline``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from alkaline_edge import __version__, replay
from alkaline_edge.errors import AlkalineError, InvalidInput

from .._http.json import from_json
from .._telemetry.spans import trace_id
from . import files, output
from .addresses import Address
from .boards import board
from .budgets import budget, top_up_run
from .checking import check
from .controlling import control
from .inspecting import inspect, page_
from .learned import learned
from .linting import lint_
from .listing import list_, top
from .looking import bundle_of, events_of, history_of, run_of
from .moving import asking, at_run, handover, reclaim, sync_
from .operating import fork, query, start, tail, update
from .retention import purge, retention
from .schedules import schedules
from .serving import serve
from .shell import (
    AS_JSON,
    EXIT_NO,
    Group,
    named,
    on_store,
    reported,
    showing,
    with_keys,
    writing,
    writing_to_run,
)  # fmt: skip
from .tracing import trace


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def alkaline() -> None:
    """Look at durable runs, move them, and check their histories.

    STORE is a file's path, or a URL such as postgresql://... or redis://...; leave it out where --store or the
    variable ALKALINE_STORE names one. Each command but serve also takes the http(s) URL of a server, and asks there
    with the bearer token in ALKALINE_TOKEN, or the key for signed requests in ALKALINE_KEY, NAME:SECRET.

    A sealed store opens with --keys FILE and --tenant NAME, or ALKALINE_KEYS and ALKALINE_TENANT. FILE has a line
    ID=<64 hexadecimal digits> for each key, the one that seals first. Bundles are written and read plain.

    Exit codes: 0 done, 1 the answer is no (diff, check), 2 usage or input, 3 the store, 4 not found.
    """


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def show(store: Address, id: str, as_json: bool) -> None:
    """Show one run: its status, what it waits for, what holds it up, what it spent, its result."""
    found = run_of(store, id)
    known = found.from_server is None or "run" in found.from_server  # a server need not tell the run's random id
    traced = trace_id(found.record.run, found.record.generation) if known else None
    if as_json:
        values = found.from_server or output.plain_record(found.record)
        output.print_json({**values, "requests": found.asked, "held_up": found.held_up or None, "trace": traced})
    else:
        output.print_record(found.record, found.asked, found.held_up, traced)


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def events(store: Address, id: str, as_json: bool) -> None:
    """Show the history of a run, an event a line."""
    recorded = events_of(store, id)
    if as_json:
        output.print_json([output.plain_event(n, r) for n, r in enumerate(recorded)])
    else:
        output.print_events(recorded)


@alkaline.command()
@click.option("--handoff", is_flag=True, help="Freeze the run here: it goes on where the bundle is imported.")
@AS_JSON
@reported
@on_store("RUN", "FILE")
def export(store: Address, id: str, file: str, handoff: bool, as_json: bool) -> None:
    """Write a run to FILE, an .alk bundle."""
    with files.written(file) as write:
        if not handoff:
            data = bundle_of(store, id)
        elif store.is_server:
            data = asking(store, lambda server: server.export(id, True))
        else:
            data = writing_to_run(store, id, lambda runtime: runtime.export(id, True))
        into_a_file = write(data)
    if not into_a_file:  # such as /dev/stdout: what reads it wants the bundle alone
        return
    if as_json:
        output.print_json({"run": id, "file": file, "bytes": len(data), "handoff": handoff})
    else:
        output.say(f"{id}: {len(data):,} bytes written to {file}" + (", and frozen here" if handoff else ""))


@alkaline.command("import")
@click.option("--take-over", is_flag=True, help="The run may go on here at once; otherwise it is a paused copy.")
@AS_JSON
@reported
@on_store("FILE")
def import_(store: Address, file: str, take_over: bool, as_json: bool) -> None:
    """Store the run of FILE, an .alk bundle."""
    mode, data = "take_over" if take_over else "copy", files.read(file)
    try:
        replay.read(data, showing())  # before a store is made for what is no bundle
    except AlkalineError as error:
        error.args = (f"{file} can't be imported: {error}",)
        raise
    if store.is_server:
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
@click.option(
    "--store",
    "--db",
    "store",
    envvar="ALKALINE_STORE",
    show_envvar=True,
    help="Where an A or B that is no file is a run.",
)
@with_keys
@AS_JSON
@reported
def diff(a: str, b: str, store: str | None, keys: str | None, tenant: str | None, as_json: bool) -> None:
    """Compare two histories, each an .alk file or a run of the store. Exit code 1 when they differ."""
    place = named(store, keys, tenant)
    found = replay.diff(history_of(a, place), history_of(b, place), showing())
    if as_json:
        changes = [{n: getattr(c, n) for n in ("kind", "a", "b", "text_a", "text_b", "where")} for c in found.changes]
        output.print_json(
            {"same": found.same, "common": found.common, "renumbered": found.renumbered, "changes": changes}
        )
    else:
        output.print_diff(found)
    raise SystemExit(0 if found.same else EXIT_NO)


@alkaline.command()
@click.option("--dedupe", help="The same key counts once, however often it is sent.")
@AS_JSON
@reported
@on_store("RUN", "NAME", "PAYLOAD", optional=1)
def signal(store: Address, id: str, name: str, payload: str | None, dedupe: str | None, as_json: bool) -> None:
    """Send the signal NAME to a run, with PAYLOAD, which is JSON."""
    try:
        value = None if payload is None else from_json(payload, "the payload", python=True)
    except InvalidInput as error:
        hint = "" if payload is None or payload[:1] in '{["' else f"; quote a text: '\"{payload[:200]}\"'"
        raise InvalidInput(f"{error}{hint}") from None
    at_run(store, id, lambda runs: runs.signal(id, name, value, dedupe))
    _said(as_json, f"{id}: signal {name} is recorded; the run takes it when a runtime goes on with it", id)


@alkaline.command()
@click.option("--reason", help="Why; it is kept in the history.")
@AS_JSON
@reported
@on_store("RUN")
def cancel(store: Address, id: str, reason: str | None, as_json: bool) -> None:
    """Ask for a run's end: it cleans up, and is cancelled."""
    at_run(store, id, lambda runs: runs.cancel(id, reason))
    _said(as_json, f"{id}: asked to end; it cleans up when a runtime goes on with it", id)


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def pause(store: Address, id: str, as_json: bool) -> None:
    """Ask for a pause: what is in flight ends, and nothing new starts until the run is resumed."""
    at_run(store, id, lambda runs: runs.pause(id))
    _said(as_json, f"{id}: asked to pause; it stops when what is in flight has ended", id)


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def resume(store: Address, id: str, as_json: bool) -> None:
    """Let a paused run go on: one that was paused, imported as a copy, or forked."""
    at_run(store, id, lambda runs: runs.resume(id))
    _said(as_json, f"{id}: may go on, and does when a runtime that has its workflow takes it up", id)


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def retry(store: Address, id: str, as_json: bool) -> None:
    """Try a run that has failed again: from the step that it failed of, with all that is recorded kept."""
    at_run(store, id, lambda runs: runs.retry(id))
    _said(as_json, f"{id}: to be tried again, and is when a runtime that has its workflow takes it up", id)


@alkaline.command()
@AS_JSON
@reported
@on_store("RUN")
def delete(store: Address, id: str, as_json: bool) -> None:
    """Delete a run that has ended, and all that belongs to it; cancel one first that has not."""
    at_run(store, id, lambda runs: runs.delete(id))
    _said(as_json, f"{id}: deleted", id, "deleted")


def _said(as_json: bool, text: str, id: str, done: str = "recorded") -> None:
    if as_json:
        output.print_json({"run": id, done: True})
    else:
        output.say(text)


@alkaline.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completions(shell: str) -> None:
    """Print what makes SHELL complete the commands and options of alkaline: docs/cli.md says where it goes."""
    found = get_completion_class(shell)
    assert found is not None  # click has one for each of these
    click.echo(found(alkaline, {}, "alkaline", "_ALKALINE_COMPLETE").source())


for _command in (
    check, lint_, trace, handover, reclaim, sync_, schedules, board, budget, learned, top_up_run, purge, retention,
    serve, inspect, page_,
    list_, top, start, query, update, fork, tail, control,
):  # fmt: skip
    alkaline.add_command(_command)
