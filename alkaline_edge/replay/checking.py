"""Replaying histories against code, offline: whether the code can go on with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from .. import events as ev
from ..codec import Codec
from ..context import Context
from ..errors import AlkalineError, DeterminismError, NotFound
from ..machine.execution import Execution, Sources
from ..records import dataclass
from ..runs import Header
from ..workflows import Registry, Workflow
from .reading import History, Source, read

Verdict = Literal["ok", "diverged", "unreadable", "unknown"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a replay of one history found. ``message`` says why it is not ok.

    ``events`` is how many were replayed. ``run`` and ``workflow`` say whose history it is, None where it can't be read.
    """

    name: str
    verdict: Verdict
    message: str
    events: int
    run: str | None = None
    workflow: str | None = None

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

    A mapping names the histories; otherwise they are called ``history 0`` and so on. One bad history does not stop the
    others. What is not a workflow among ``workflows`` is ERR_INVALID_INPUT.
    """
    registry = Registry([workflows] if isinstance(workflows, Workflow) else workflows)
    codec = codec or Codec()
    named: dict[str, Source]
    if isinstance(histories, Mapping):
        named = {str(name): each for name, each in histories.items()}
    else:
        several = [histories] if isinstance(histories, (bytes, History)) else histories
        named = {f"history {n}": each for n, each in enumerate(several)}
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
        return Checked(name, "unknown", str(error), 0, *of)
    verdict, message, events = _replay(history, header, definition, registry, codec)
    if verdict == "diverged" and header.former:  # 0.1 wrote it, on this Python or on another one
        again = _replay(history, header.by_our_rules(), definition, registry, codec)
        verdict, message, events = again if again[0] == "ok" else (verdict, message, events)
    return Checked(name, verdict, message, events, *of)


def _replay(
    history: History, header: Header, definition: Workflow, registry: Registry, codec: Codec
) -> tuple[Verdict, str, int]:
    timed = history.events()
    (start, started), rest = timed[0], timed[1:]
    assert isinstance(started, ev.Started)
    sources = Sources(lambda: timed[-1][0], bytes)
    machine: Execution | None = None
    try:
        machine = Execution(definition, header, started.input, codec, sources, Context, 1, _lookup(history, registry))
        machine.start(start)
        machine.feed(rest)
        stuck = machine.stalled()
    except DeterminismError as error:
        return "diverged", str(error), machine.position if machine else 0
    except AlkalineError as error:
        return "unreadable", str(error), machine.position if machine else 0
    except SystemExit:
        text = "the handler called sys.exit(), which would end the process that runs it; raise an ordinary error"
        return "diverged", text, machine.position if machine else 0
    except Exception as error:
        # The handler's own errors are outcomes, so this one is from events whose parts have impossible types.
        text = f"an event of the history can't be applied ({type(error).__name__}): it was edited; export it again"
        return "unreadable", text, machine.position if machine else 0
    finally:
        if machine is not None:
            machine.set_aside()
    return ("ok", "", len(timed)) if stuck is None else ("diverged", str(stuck), len(timed))


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
