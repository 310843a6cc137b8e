"""The commands of ``alkaline``."""

from __future__ import annotations

import asyncio
import functools
import importlib
import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from alkaline_edge import AlkalineError, Runtime, Workflow, replay
from alkaline_edge.errors import ERR_INVALID_INPUT, ERR_NOT_FOUND, InvalidInput

from . import _output
from .opening import open_host

STORE = click.argument("store")
RUN = click.argument("run")
AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
EXIT_NO, EXIT_USAGE, EXIT_STORE, EXIT_NOT_FOUND = 1, 2, 3, 4


def fail(error: AlkalineError, as_json: bool) -> NoReturn:
    """One line on stderr, and the exit code of the error's kind."""
    if as_json:
        print(json.dumps({"error": error.code, "message": str(error)}), file=sys.stderr)
    else:
        print(f"error: {error}", file=sys.stderr)
    raise SystemExit({ERR_INVALID_INPUT: EXIT_USAGE, ERR_NOT_FOUND: EXIT_NOT_FOUND}.get(error.code, EXIT_STORE))


def reported(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn errors of the kernel into their line and exit code."""

    @functools.wraps(command)
    def wrapper(*args: Any, as_json: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, as_json=as_json, **kwargs)
        except AlkalineError as error:
            fail(error, as_json)
        except BrokenPipeError:  # such as `alkaline list ... | head`: whoever reads has seen enough
            sys.stderr.close()
            raise SystemExit(0) from None
        except OSError as error:
            fail(InvalidInput(f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}"), as_json)

    return wrapper


def on_store(store: str, read_only: bool, work: Callable[[Runtime], Coroutine[Any, Any, Any]]) -> Any:
    """Open the store, do ``work`` with a runtime that runs nothing, and close both."""

    async def go() -> Any:
        host = open_host(store, read_only=read_only)
        try:
            async with Runtime(host) as runtime:
                return await work(runtime)
        finally:
            await host.close()

    return asyncio.run(go())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="alkaline-edge")
def alkaline() -> None:
    """Look at durable runs, move them, and check their histories.

    STORE is a file's path, or a URL such as postgresql://... or redis://...
    """


@alkaline.command("list")
@STORE
@click.option("--status", type=click.Choice(["running", "suspended", "completed", "failed", "paused", "cancelled"]))
@click.option("--workflow", help="Only runs of this workflow.")
@click.option("--attribute", "attributes", multiple=True, metavar="NAME=VALUE", help="Only runs with this attribute.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000))
@click.option("--after", default="", help="Go on behind this place, which an earlier page gave.")
@AS_JSON
@reported
def list_(
    store: str,
    status: str | None,
    workflow: str | None,
    attributes: Sequence[str],
    limit: int,
    after: str,
    as_json: bool,
) -> None:
    """List the runs of a store."""
    wanted = dict(_attribute(text) for text in attributes)
    page = on_store(
        store, True, lambda runtime: runtime.list_executions(status, workflow, wanted or None, after, limit)
    )
    if as_json:
        _output.print_json({"runs": [_output.plain_record(r) for r in page.items], "after": page.after})
        return
    _output.print_runs(page.items)
    if page.after is not None:
        _output.note(f"more: --after {page.after}")


def _attribute(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign:
        raise InvalidInput(f"--attribute wants NAME=VALUE, not {text!r}")
    try:
        found = json.loads(value)
    except ValueError:
        return name, value
    return name, found if isinstance(found, (str, int, float, bool)) else value


@alkaline.command()
@STORE
@RUN
@AS_JSON
@reported
def show(store: str, run: str, as_json: bool) -> None:
    """Show one run: its status, what it waits for, what it spent, its result."""
    record = on_store(store, True, lambda runtime: runtime.get_execution(run))
    if as_json:
        _output.print_json(_output.plain_record(record))
    else:
        _output.print_record(record)


@alkaline.command()
@STORE
@RUN
@AS_JSON
@reported
def events(store: str, run: str, as_json: bool) -> None:
    """Show the history of a run, an event a line."""
    recorded = on_store(store, True, lambda runtime: runtime.history(run))
    if as_json:
        _output.print_json([_output.plain_event(n, r) for n, r in enumerate(recorded)])
    else:
        _output.print_events(recorded)


@alkaline.command()
@STORE
@RUN
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--handoff", is_flag=True, help="Freeze the run here: it goes on where the bundle is imported.")
@AS_JSON
@reported
def export(store: str, run: str, file: Path, handoff: bool, as_json: bool) -> None:
    """Write a run to FILE, an .alk bundle."""
    data = on_store(store, not handoff, lambda runtime: runtime.export(run, handoff))
    temporary = file.with_name(file.name + ".part")
    temporary.write_bytes(data)
    temporary.replace(file)
    if as_json:
        _output.print_json({"run": run, "file": str(file), "bytes": len(data), "handoff": handoff})
    else:
        print(f"{run}: {len(data):,} bytes written to {file}" + (", and frozen here" if handoff else ""))


@alkaline.command("import")
@STORE
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--take-over", is_flag=True, help="The run may go on here at once; otherwise it is a paused copy.")
@AS_JSON
@reported
def import_(store: str, file: Path, take_over: bool, as_json: bool) -> None:
    """Store the run of FILE, an .alk bundle."""
    mode = "take_over" if take_over else "copy"
    run = on_store(store, False, lambda runtime: runtime.import_(file.read_bytes(), mode))
    if as_json:
        _output.print_json({"run": run.id, "mode": mode})
    else:
        print(f"{run.id}: imported, {'it may go on' if take_over else 'paused until somebody resumes it'}")


@alkaline.command()
@click.argument("a")
@click.argument("b")
@click.option("--store", help="Where A and B are runs instead of files.")
@AS_JSON
@reported
def diff(a: str, b: str, store: str | None, as_json: bool) -> None:
    """Compare two histories: .alk files, or with --store runs. Exit code 1 when they differ."""
    left, right = (_bundle(each, store) for each in (a, b))
    found = replay.diff(left, right)
    if as_json:
        changes = [{n: getattr(c, n) for n in ("kind", "a", "b", "text_a", "text_b")} for c in found.changes]
        _output.print_json({"same": found.same, "common": found.common, "changes": changes})
    else:
        _output.print_diff(found)
    raise SystemExit(0 if found.same else EXIT_NO)


def _bundle(name: str, store: str | None) -> bytes:
    if store is None:
        return Path(name).read_bytes()
    data = on_store(store, True, lambda runtime: runtime.export(name))
    assert isinstance(data, bytes)
    return data


@alkaline.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--workflows", required=True, multiple=True, metavar="MODULE[:NAME]",
    help="The code to check against: a module, or a workflow or list of workflows in it.",
)  # fmt: skip
@AS_JSON
@reported
def check(files: Sequence[Path], workflows: Sequence[str], as_json: bool) -> None:
    """Replay .alk FILES against workflows, without running anything. Exit code 1 if one does not fit."""
    known = [workflow for name in workflows for workflow in _workflows(name)]
    histories: dict[str, bytes | replay.History] = {str(file): file.read_bytes() for file in files}
    results = replay.check(histories, known)
    if as_json:
        _output.print_json(
            [{"file": r.name, "verdict": r.verdict, "message": r.message, "events": r.events} for r in results]
        )
    else:
        _output.print_checks(results)
    if any(result.verdict == "unreadable" for result in results):
        raise SystemExit(EXIT_USAGE)
    raise SystemExit(0 if all(result.ok for result in results) else EXIT_NO)


def _workflows(name: str) -> list[Workflow]:
    module_name, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InvalidInput(f"--workflows {name}: {module_name} can't be imported ({error})") from None
    finally:
        sys.path.remove("")
    if attribute and not hasattr(module, attribute):
        raise InvalidInput(f"--workflows {name}: {module_name} has no {attribute!r}")
    found = getattr(module, attribute) if attribute else list(vars(module).values())
    each = [found] if isinstance(found, Workflow) else list(found)
    chosen = [value for value in each if isinstance(value, Workflow)]
    if not chosen:
        raise InvalidInput(f"--workflows {name}: there is no workflow; decorate an async function with @workflow")
    return chosen


@alkaline.command()
@STORE
@RUN
@click.argument("name")
@click.argument("payload", default="null")
@click.option("--dedupe", help="The same key counts once, however often it is sent.")
@AS_JSON
@reported
def signal(store: str, run: str, name: str, payload: str, dedupe: str | None, as_json: bool) -> None:
    """Send the signal NAME to a run, with PAYLOAD, which is JSON."""
    try:
        value = json.loads(payload)
    except ValueError:
        raise InvalidInput(f"the payload must be JSON; quote a text: '\"{payload}\"'") from None
    on_store(store, False, lambda runtime: runtime.signal(run, name, value, dedupe))
    _said(as_json, f"{run}: signal {name} is recorded; the run takes it when a runtime goes on with it", run)


@alkaline.command()
@STORE
@RUN
@click.option("--reason", help="Why; it is kept in the history.")
@AS_JSON
@reported
def cancel(store: str, run: str, reason: str | None, as_json: bool) -> None:
    """Ask for a run's end: it cleans up, and is cancelled."""
    on_store(store, False, lambda runtime: runtime.cancel(run, reason))
    _said(as_json, f"{run}: asked to end; it cleans up when a runtime goes on with it", run)


def _said(as_json: bool, text: str, run: str) -> None:
    if as_json:
        _output.print_json({"run": run, "recorded": True})
    else:
        print(text)
