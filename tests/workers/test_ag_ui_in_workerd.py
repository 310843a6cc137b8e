"""An agent of AG-UI in a Durable Object of real workerd: an interrupt, a kill, its answer, and words as they come."""

from __future__ import annotations

import json
from typing import Any

from ag_ui.core import Event
from pydantic import TypeAdapter

from wasm.workers.harness import WorkerServer

EVENTS: TypeAdapter[Any] = TypeAdapter(Event)


def ask(server: WorkerServer, run: str, **more: Any) -> list[Any]:
    """The events of one request, by the protocol's own types."""
    messages = [{"id": "1", "role": "user", "content": "to be"}]
    given = {"threadId": "t", "runId": run, "messages": messages, "state": {}, "tools": [], "context": []}
    reply = server.fetch("/runs-of/agui/agent", json.dumps({**given, "forwardedProps": {}, **more}))
    assert reply.status == 200, reply.body
    frames = [each for each in str(reply.body).split("\n\n") if each.startswith("data: ")]
    return [EVENTS.validate_json(each.removeprefix("data: ")) for each in frames]


def test_a_wait_of_an_object_is_an_interrupt_that_outlives_a_kill(servers: Any) -> None:
    """The page that asks again after the kill hears the same; its answer counts once, and the words come in pieces."""
    server: WorkerServer = servers()
    first = ask(server, "1")
    (interrupt,) = first[-1].outcome.interrupts
    assert (first[0].type.value, interrupt.reason) == ("RUN_STARTED", "approve")
    server.kill()
    server.start()
    assert [each.type for each in ask(server, "1")] == [each.type for each in first]
    resume = [{"interruptId": interrupt.id, "status": "resolved", "payload": True}]
    rest = ask(server, "2", resume=resume)
    assert [each.delta for each in rest if hasattr(each, "delta")] == ["to", "be"]
    assert (rest[-1].type.value, rest[-1].outcome.type) == ("RUN_FINISHED", "success")
    assert ask(server, "3", resume=resume)[-1].result == rest[-1].result
