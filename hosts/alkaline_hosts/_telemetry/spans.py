"""A span, and how its ids are derived: of a run they are the same in each process, store and reader.

The trace is that of the run's random id and its generation, so that a replay, a suspension or a move adds none. A span
of a step is that of its command.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

Value = str | int | float | bool
_AGENT_STEP = re.compile(r"^(?P<agent>.+?)__(?:model\.request(?:_stream)?(?:\.|$)|.*\.call_tool(?::(?P<tool>.+))?$)")
CLIENT = "client"
INTERNAL = "internal"


class Span(NamedTuple):
    """One span. ``trace`` is 32 hexadecimal digits, ``id`` and ``parent`` 16, ``parent`` empty for a root.

    ``start`` and ``end`` are ms since 1970. ``error`` is the type of what it failed with, None where it did not.
    ``links`` are the trace and span of each other span that it belongs to.
    """

    trace: str
    id: str
    parent: str
    name: str
    kind: str
    start: int
    end: int
    attributes: dict[str, Value]
    error: str | None = None
    links: tuple[tuple[str, str], ...] = ()
    events: tuple[tuple[int, str], ...] = ()


class Of(NamedTuple):
    """Whose spans they are: a run's names, and its generation."""

    id: str
    run: str
    workflow: str
    generation: int

    @property
    def trace(self) -> str:
        """The id of its trace."""
        return trace_id(self.run, self.generation)

    @property
    def root(self) -> str:
        """The id of the span of the whole run."""
        return span_id(self.run, self.generation, "")


def trace_id(run: str, generation: int) -> str:
    """The trace of a generation of the run whose random id is ``run``."""
    return _digest("trace", run, generation, "")[:32]


def span_id(run: str, generation: int, command: str) -> str:
    """The span of a command of it; of the run itself for an empty one."""
    return _digest("span", run, generation, command)[:16]


def _digest(*parts: Any) -> str:
    return sha256("\n".join(["alkaline_edge", *map(str, parts)]).encode()).hexdigest()


def run_span(
    of: Of, start: int, end: int, error: str | None, links: tuple[tuple[str, str], ...] = (),
    events: tuple[tuple[int, str], ...] = (),
) -> Span:  # fmt: skip
    """The span of a whole run."""
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": of.workflow,
        "alkaline.run.id": of.id, "alkaline.run.generation": of.generation,
    }  # fmt: skip
    if error is not None:
        attributes["error.type"] = error
    if of.generation:
        before = of._replace(generation=of.generation - 1)
        links = (*links, (before.trace, before.root))
    name = f"invoke_workflow {of.workflow}"
    return Span(of.trace, of.root, "", name, INTERNAL, start, max(start, end), attributes, error, links, events)


def step_span(
    of: Of,
    name: str,
    command: str,
    start: int,
    end: int,
    attempt: int,
    error: str | None,
    more: Mapping[str, Value],
    last: bool = True,
) -> Span:
    """The span of a step; of an attempt that was not the ``last`` one, which has an id of its own."""
    attributes: dict[str, Value] = {
        "alkaline.step.name": name, "alkaline.run.id": of.id, "alkaline.command.id": command,
        "alkaline.attempt": attempt, **_of_agent(name), **more,
    }  # fmt: skip
    if error is not None:
        attributes["error.type"] = error
    shown, kind = _shown(name, attributes)
    id = span_id(of.run, of.generation, command if last else f"{command} attempt {attempt}")
    return Span(of.trace, id, of.root, shown, kind, min(start, end) or end, end, attributes, error)


def _of_agent(name: str) -> dict[str, Value]:
    """What the name of a step says that an agent of Pydantic AI has made."""
    found = _AGENT_STEP.match(name)
    if found is None:
        return {}
    if "call_tool" in name:
        tool = {"gen_ai.tool.name": found["tool"]} if found["tool"] else {}
        return {"gen_ai.operation.name": "execute_tool", "gen_ai.agent.name": found["agent"], **tool}
    return {"gen_ai.operation.name": "chat", "gen_ai.agent.name": found["agent"]}


_NAMED_BY = {
    "chat": "gen_ai.request.model", "execute_tool": "gen_ai.tool.name", "invoke_agent": "gen_ai.agent.name",
    "embeddings": "gen_ai.request.model", "text_completion": "gen_ai.request.model",
}  # fmt: skip


def _shown(name: str, attributes: Mapping[str, Value]) -> tuple[str, str]:
    operation = attributes.get("gen_ai.operation.name")
    if not isinstance(operation, str):
        return f"alkaline.step {name}", INTERNAL
    what = attributes.get(_NAMED_BY.get(operation, ""), "")
    client = operation in ("chat", "embeddings", "text_completion")
    return f"{operation} {what}".strip(), CLIENT if client else INTERNAL
