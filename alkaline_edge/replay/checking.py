"""Replaying histories against code, offline: whether the code can go on with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from .. import events as ev
from ..activations import together
from ..arguments import expect, several
from ..codec import Codec
from ..context import Context
from ..errors import AlkalineError, DeterminismError, NotFound
from ..interrupts import ends_the_process
from ..machine.execution import Execution, Sources
from ..retried import counting
from ..runs import Header
from ..structs import NamedTuple, dataclass
from ..workflows import Registry, Workflow
from . import mending
from .reading import History, Source, read

Verdict = Literal["ok", "diverged", "unreadable", "unknown"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a replay of the history called ``name`` found: its ``verdict``, as ``check`` has them.

    ``message`` says why it is not ok, and ``mend`` what to change in the code so that it is, empty where nothing would.
    ``events`` is how many were replayed. ``run`` and ``workflow`` say whose history it is, None where it can't be read.
    ``position`` is the number of the event at which code and history disagree, from 0; None where they do not.
    """

    name: str
    verdict: Verdict
    message: str
    events: int
    run: str | None = None
    workflow: str | None = None
    position: int | None = None
    mend: str = ""

    @property
    def ok(self) -> bool:
        """The code can go on with this history."""
        return self.verdict == "ok"


def check(
    histories: bytes | History | Iterable[Source] | Mapping[str, Source],
    workflows: Workflow | Iterable[Workflow],
    codec: Codec | None = None,
) -> list[Checked]:
    """Replay each history against ``workflows``, and say of each whether that code can go on with it.

    ``ok``: every event fits, and a history that has ended ends the same. ``diverged``: code and history disagree, or
    the code would be stuck at the history's end. ``unknown``: its workflow and version is not among those given.
    ``unreadable``: not a sound history. No step is run: what a handler asks for beyond the end of its history is
    dropped. The clock stands still at the history's last event, and entropy is zero.

    ``codec``: that of the runtime which wrote them, where types are registered on it. A mapping names the histories;
    otherwise they are called ``history 0`` and so on. One bad history does not stop the others. What is not a workflow
    among ``workflows`` is ERR_INVALID_INPUT.
    """
    registry = Registry([workflows] if isinstance(workflows, Workflow) else workflows)
    expect(codec, (Codec, type(None)), "codec", "a Codec")
    codec = codec or Codec()
    named: dict[str, Source]
    if isinstance(histories, Mapping):
        named = {str(name): each for name, each in histories.items()}
    else:
        given = [histories] if isinstance(histories, (bytes, History)) else histories
        found = several(given, "histories", "a history, or several of them")
        named = {f"history {n}": each for n, each in enumerate(found)}
    return [_check(name, source, registry, codec) for name, source in named.items()]


def _check(name: str, source: Source, registry: Registry, codec: Codec) -> Checked:
    try:
        history = read(source, codec)
    except AlkalineError as error:
        return Checked(name, "unreadable", str(error), 0)
    header = history.header
    of = (str(header.id), f"{header.workflow} version {header.version}")
    try:
        definition = registry.exact(header.workflow, header.version)
    except NotFound as error:
        known = ((each.name, each.version) for each in registry.all())
        advice = mending.unknown(header.workflow, header.version, known)
        return Checked(name, "unknown", str(error), 0, *of, mend=advice)
    found = _replay(history, header, definition, registry, codec)
    if found.verdict == "diverged" and header.former:  # 0.1 wrote it, on this Python or on another one
        again = _replay(history, header.by_our_rules(), definition, registry, codec)
        found = again if again.verdict == "ok" else found
    if found.error is None:
        return Checked(name, found.verdict, found.message, found.events, *of)
    events = [event for _, event in history.events()]
    position, message = mending.place(found.error, events), found.message
    if position is None:
        position = len(events)
    counted = found.error.detail.get("position")
    message = message.replace(f"at event {counted},", f"at event {position},", 1)
    advice = mending.mend(found.error, events, header.version)
    return Checked(name, found.verdict, message, found.events, *of, position, advice)


class _Found(NamedTuple):
    """What a replay came to, after how many events; ``error`` is a divergence that code can mend."""

    verdict: Verdict
    message: str
    events: int
    error: DeterminismError | None = None


def _replay(history: History, header: Header, definition: Workflow, registry: Registry, codec: Codec) -> _Found:
    timed = history.events()
    start, started = timed[0]
    rest = [each for commit in counting(history.commits) for each in together(commit)][1:]
    assert isinstance(started, ev.Started)
    sources = Sources(lambda: timed[-1][0], bytes)
    machine: Execution | None = None
    try:
        machine = Execution(definition, header, started.input, codec, sources, Context, 1, _lookup(history, registry))
        machine.start(start)
        machine.feed(rest)
        stuck = machine.stalled()
    except DeterminismError as error:
        return _Found("diverged", str(error), machine.position if machine else 0, error)
    except AlkalineError as error:
        return _Found("unreadable", str(error), machine.position if machine else 0)
    except (SystemExit, KeyboardInterrupt) as error:
        if ends_the_process(error):
            raise
        text = "the handler called sys.exit(), which would end the process that runs it; raise an ordinary error"
        return _Found("diverged", text, machine.position if machine else 0)
    except Exception as error:
        # The handler's own errors are outcomes, so this one is from events whose parts have impossible types.
        text = f"an event of the history can't be applied ({type(error).__name__}): it was edited; export it again"
        return _Found("unreadable", text, machine.position if machine else 0)
    finally:
        if machine is not None:
            machine.set_aside()
    if stuck is None:
        return _Found("ok", "", len(timed))
    return _Found("diverged", str(stuck), len(timed), stuck)


def _lookup(history: History, registry: Registry) -> Any:
    """As ``registry.newest``; a child that the history has started need not be among the workflows given."""
    started = {event.workflow for _, event in history.events() if isinstance(event, ev.ChildStarted)}

    def lookup(name: str) -> Workflow:
        try:
            return registry.newest(name)
        except NotFound:
            if name not in started:
                raise
            # It was started, so it was no cycle, or recursed on purpose. It is not run here.
            return Workflow(_never, name, recursive=True)

    return lookup


async def _never(ctx: Context) -> None:
    raise AssertionError("a check runs no child")
