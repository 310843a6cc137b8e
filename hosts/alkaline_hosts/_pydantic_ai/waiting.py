"""Waits of an agent for somebody outside, such as an approval: a signal of the run it is in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from pydantic import JsonValue
from pydantic_ai.durable_exec import ExternalEventError, ExternalEventWaiter

from alkaline_edge import AlkalineError, Context, InvalidInput, Runtime, StepInfo

from .deciding import REFUSED, Decision, digest_of, shape
from .surroundings import as_a_unit_sees_it

__all__ = ["Signals", "pending_events", "refuse_event", "resolve_event"]


class Signals(ExternalEventWaiter):
    """A token is the run's id and a name of its own; what it is resolved with comes as a signal."""

    def __init__(self, ctx: Context, agent: str) -> None:
        self._ctx, self._agent = ctx, agent

    async def wait(
        self, name: str, *, ask: Callable[[str], Awaitable[JsonValue]], timeout: timedelta | None
    ) -> JsonValue:
        """As ExternalEventWaiter.wait: asked once, recorded, and answered in any process.

        A query of the signal's name says what is to be decided. What is no decision on that is emitted as
        ``agent.decision_refused``, with the reason, and the wait goes on.
        """
        ctx = self._ctx
        token = f"{ctx.execution.id}/{ctx.uuid()}"
        signal, decision = _signal_of(token), Decision.of(ask)
        if decision is not None:
            shown = decision.shown(token)
            ctx.on_query(signal, lambda: shown)
        variables = as_a_unit_sees_it()

        async def asked(token: str, info: StepInfo) -> JsonValue:
            async def body() -> JsonValue:
                return await ask(token)

            return await asyncio.get_running_loop().create_task(body(), context=variables(info))

        answer: JsonValue = await ctx.step(f"{self._agent}__external_event.{name}.ask", asked, token)
        if answer is None:
            answer = await self._decided(signal, decision, timeout)
        if isinstance(answer, dict) and answer.keys() == {REFUSED}:
            raise ExternalEventError(str(answer[REFUSED]))
        return answer

    async def _decided(self, signal: str, decision: Decision | None, timeout: timedelta | None) -> JsonValue:
        ends = None if timeout is None else self._ctx.now() + timeout
        while True:
            left = None if ends is None else max(ends - self._ctx.now(), timedelta(0))
            try:
                answer: JsonValue = await self._ctx.wait_for_signal(signal, left)
            except TimeoutError:
                raise ExternalEventError(f"nobody answered within {timeout}") from None
            if decision is None:
                return answer
            answer, wrong = decision.read(answer)
            if not wrong:
                return answer
            self._ctx.emit("agent.decision_refused", {"signal": signal, "reason": wrong})


def _signal_of(token: str) -> str:
    return f"event:{token.rpartition('/')[2]}"


def _run_of(token: str) -> str:
    id, slash, name = token.rpartition("/") if isinstance(token, str) else ("", "", "")
    if not slash or not id or not name:
        raise InvalidInput("a token is what an agent gave to the function that asks: the run's id, / and a name")
    return id


async def pending_events(runtime: Runtime, id: str) -> list[dict[str, Any]]:
    """What the agents in a run wait for somebody to decide: from any process, whoever was asked.

    Each is a map: ``token``, for ``resolve_event``; ``message``, in words; ``approvals`` and ``calls``, a list each of
    ``{"id", "tool", "args"}``. ERR_NOT_FOUND: there is no such run.
    """
    record = await runtime.get_execution(id)
    names = [text.removeprefix("signal ") for text in record.waiting if text.startswith("signal event:")]
    return [said for name in names if (said := await _asked(runtime, id, name)) is not None]


async def _asked(runtime: Runtime, id: str, signal: str) -> dict[str, Any] | None:
    try:
        said = await runtime.query(id, signal)
    except AlkalineError:  # a wait that says nothing of itself
        return None
    return said if isinstance(said, dict) else None


async def resolve_event(runtime: Runtime, token: str, payload: JsonValue) -> None:
    """Answer what an agent waits for; the same answer twice is one.

    For ``RequestInput`` the payload is ``{"approvals": {CALL_ID: True | False | {...}}, "calls": {CALL_ID: result}}``,
    or True or False for all approvals. ERR_INVALID_INPUT: it is none of these, or not about the calls that wait. Then
    nothing was sent, and the agent still waits. A signal that comes by another way is looked at by the run itself.
    """
    id, signal = _run_of(token), _signal_of(token)
    asked = await _asked(runtime, id, signal)
    if asked is not None and not (isinstance(payload, dict) and payload.keys() == {REFUSED}):
        wrong = shape(payload) or _unfit(asked, payload)
        if wrong:
            raise InvalidInput(f"that decides nothing for {token!r:.120}: {wrong}")
    await runtime.signal(id, signal, payload, dedupe=f"{signal}:{digest_of(payload)}")


def _unfit(asked: dict[str, Any], payload: Any) -> str:
    """Why a decision is not about what was asked."""
    if isinstance(payload, bool):
        return "results of calls are asked for" if asked["calls"] else ""
    for name in ("approvals", "calls"):
        known = {each["id"] for each in asked[name]}
        given = set(payload.get(name) or {})
        if known != given:
            return f"the {name} that wait are {sorted(known)!r:.300}, and it decides on {sorted(given)!r:.300}"
    return ""


async def refuse_event(runtime: Runtime, token: str, reason: str) -> None:
    """Tell an agent that there will be no answer."""
    await resolve_event(runtime, token, {REFUSED: reason})
