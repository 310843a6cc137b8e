"""A workflow as an AG-UI agent: a RunAgentInput in, its events out. No I/O of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

from alkaline_edge import Followed, Runtime
from alkaline_edge import events as ev
from alkaline_edge.errors import AlkalineError, InvalidInput
from alkaline_edge.failures import StepError
from alkaline_edge.lifecycle import Published
from alkaline_edge.runtime.following import place_of

from .._http.api import Gate, HttpApi
from .._http.json import from_json, to_json
from .._http.messages import MAX_BODY, STREAM, Request, Response, pick
from .._http.streaming import frame, frames
from .._mcp.tasks import asked_by, send_answer

TEXT = "text"
"""The topic of what a step publishes that is the text of a message, bit by bit."""
ATTRIBUTE = "thread"
"""The attribute of runs by which those of a thread are found."""
_LOOK_SECONDS = 0.5
_Events = AsyncGenerator[dict[str, Any], None]


class AgentApi(HttpApi):
    """Answers AG-UI requests by runs of one workflow; who may ask is as it is for an HttpApi."""

    def __init__(
        self,
        runtime: Runtime,
        workflow: str,
        access: Gate | None = None,
        origins: Iterable[str] = (),
        max_body: int = MAX_BODY,
        hosts: Iterable[str] | None = None,
    ) -> None:
        super().__init__(runtime, access, origins, max_body, hosts=hosts)
        self._agent, self._workflow = runtime, runtime.registry.newest(workflow).name

    async def _answer(self, request: Request) -> Response:
        pick({"POST": self}, request.method, request.head)
        given = _input_of(request.body)
        events = self._events(given, *await self._run_of(given))
        codec, host = self._agent.codec, self._agent.host

        def write(event: dict[str, Any]) -> bytes:
            return frame(to_json(event, codec))

        def problem(error: Exception) -> bytes:
            told = isinstance(error, (AlkalineError, StepError))
            code = getattr(error, "code", None) if told else "ERR_STORE"
            return write(_error(str(error) if told else "something went wrong inside the server", code))

        return Response(200, {"content-type": STREAM}, b"", frames(events, write, problem, host, b"", b""))

    async def _run_of(self, given: dict[str, Any]) -> tuple[str, str, Callable[[], Awaitable[Any]]]:
        """The run that a request is about, the place behind which its events are told, and what sets it going."""
        if given.get("resume"):
            answers = [await self._resumed(entry) for entry in given["resume"]]
            if len({id for id, _, _ in answers}) > 1:
                raise InvalidInput("resume has interrupts of one run")

            async def answer() -> None:
                for _, _, send in answers:
                    await send()

            return answers[-1][0], answers[-1][1], answer
        key = f"{given['threadId']} {given['runId']}"
        id = f"agui_{sha256(key.encode()).hexdigest()[:40]}"
        thread = sha256(given["threadId"].encode()).hexdigest()[:40]

        async def start() -> None:
            await self._agent.start(self._workflow, given, id, "join", {ATTRIBUTE: thread})

        return id, "", start

    async def _resumed(self, entry: Any) -> tuple[str, str, Callable[[], Awaitable[Any]]]:
        """The run of an interrupt, the place at which it was told, and what hands its answer over, once."""
        interrupt = entry.get("interruptId") if isinstance(entry, Mapping) else None
        parts = interrupt.split("|", 2) if isinstance(interrupt, str) else []
        if len(parts) != 3 or entry.get("status") not in ("resolved", "cancelled"):
            raise InvalidInput('resume has entries {"interruptId", "status": "resolved" or "cancelled", "payload"}')
        id, place, key = parts
        record = await self._agent.get_execution(id)
        if ATTRIBUTE not in record.attributes or record.workflow != self._workflow:
            raise InvalidInput("resume names an interrupt that is none of this agent's")
        place_of(place)

        async def send() -> None:
            asked = await asked_by(self._agent, record)
            if key in asked and entry["status"] == "resolved":
                await send_answer(self._agent, record, key, asked[key][0], entry.get("payload"))
            elif key in asked:
                await self._agent.cancel(id, f"the user cancelled {asked[key][0]}"[:500])

        return id, place, send

    # --- events ----------------------------------------------------------------------------------------------------
    async def _events(self, given: dict[str, Any], id: str, after: str, begin: Callable[[], Awaitable[Any]]) -> _Events:
        where = {"threadId": given["threadId"], "runId": given["runId"]}
        yield {"type": "RUN_STARTED", **where, "protocolVersion": "1.0"}
        begun = asyncio.Event()

        async def begin_heard() -> None:
            await begin()
            begun.set()

        following = self._agent.follow(id, after, live=True, begin=begin_heard)
        telling, place = _Telling(id), after
        next_one = asyncio.ensure_future(anext(following))
        resting = asyncio.ensure_future(self._interrupted(id, begun))
        try:
            while True:
                await asyncio.wait([next_one, resting], return_when=asyncio.FIRST_COMPLETED)
                if next_one.done():
                    one = next_one.result()
                    for event in telling.of(one, where):
                        yield event
                    if isinstance(one, Followed):
                        place = one.place
                        if one.event[0] in ev.ENDINGS and one.event[0] != ev.CONTINUED_AS_NEW:
                            return
                    next_one = asyncio.ensure_future(anext(following))
                elif resting.result() is None:
                    resting = asyncio.ensure_future(asyncio.get_running_loop().create_future())  # its end is told
                else:
                    last, asked = resting.result()
                    if place != last:
                        await asyncio.wait([next_one])
                        continue
                    interrupts = [
                        {
                            "id": f"{id}|{place}|{key}",
                            "reason": name,
                            "message": request["params"]["message"],
                            "responseSchema": request["params"].get("requestedSchema"),
                        }
                        for key, (name, request) in asked.items()
                    ]
                    yield {"type": "RUN_FINISHED", **where, "outcome": {"type": "interrupt", "interrupts": interrupts}}
                    return
        finally:
            for task in (next_one, resting):
                task.cancel()
            await asyncio.gather(next_one, resting, return_exceptions=True)
            await following.aclose()

    async def _interrupted(self, id: str, begun: asyncio.Event) -> Any:
        """The place of the last event and what is asked, once the run waits for somebody; None once it has ended."""
        await begun.wait()
        while True:
            with suppress(AlkalineError):  # what keeps it from going on, ``follow`` raises
                await self._agent.settle(id)
            record = await self._agent.get_execution(id)
            if record.finished:
                return None
            asked = await asked_by(self._agent, record)
            if asked:
                history = await self._agent.history(id)
                return f"{record.generation}.{len(history) - 1}", asked
            await self._agent.host.sleep(_LOOK_SECONDS)


class _Telling:
    """Events of a run as those of AG-UI."""

    def __init__(self, id: str) -> None:
        self._id = id
        self._begun: set[str] = set()
        self._messages: dict[str, str] = {}
        self._spoke = False

    def of(self, one: Followed | Published, where: dict[str, Any]) -> list[dict[str, Any]]:
        """What is told of one of them."""
        if isinstance(one, Published):
            return self._published(one)
        match one.event:
            case ev.StepCompleted() | ev.StepFailed() as step:
                found = self._begin(step.id, step.name)
                return [*found, *self._end(step.id), {"type": "STEP_FINISHED", "stepName": step.name}]
            case ev.AttemptFailed() as attempt:
                return self._end(attempt.id)
            case ev.Emitted() as emitted:
                return [{"type": "CUSTOM", "name": emitted.topic, "value": emitted.data}]
            case ev.Completed() as completed:
                value = completed.value
                said = self._whole(value) if isinstance(value, str) and value and not self._spoke else []
                done = {"type": "RUN_FINISHED", **where, "result": value, "outcome": {"type": "success"}}
                return [*said, done]
            case ev.Failed() as failed:
                return [_error(str(failed.failure.get("message")), failed.failure.get("type"))]
            case ev.Cancelled():
                return [{"type": "RUN_FINISHED", **where, "outcome": {"type": "cancelled"}}]
        return []

    def _begin(self, command: str, name: str) -> list[dict[str, Any]]:
        if command in self._begun:
            return []
        self._begun.add(command)
        return [{"type": "STEP_STARTED", "stepName": name}]

    def _published(self, one: Published) -> list[dict[str, Any]]:
        found = self._begin(one.command, one.name)
        if one.topic != TEXT or not isinstance(one.data, str):
            return [*found, {"type": "CUSTOM", "name": one.topic, "value": one.data}]
        message = f"{self._id}.{one.command}.{one.attempt}"
        if self._messages.get(one.command) != message:
            found += [
                *self._end(one.command),
                {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"},
            ]
            self._messages[one.command], self._spoke = message, True
        return [*found, {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": one.data}]

    def _end(self, command: str) -> list[dict[str, Any]]:
        message = self._messages.pop(command, None)
        return [] if message is None else [{"type": "TEXT_MESSAGE_END", "messageId": message}]

    def _whole(self, text: str) -> list[dict[str, Any]]:
        message = f"{self._id}.result"
        return [
            {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"},
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": text},
            {"type": "TEXT_MESSAGE_END", "messageId": message},
        ]


def _error(message: str, code: str | None) -> dict[str, Any]:
    return {"type": "RUN_ERROR", "message": message, **({} if code is None else {"code": code})}


def _input_of(body: bytes) -> dict[str, Any]:
    """The RunAgentInput of a request; InvalidInput where it is none."""
    given = from_json(body)
    texts = ("threadId", "runId")
    if not isinstance(given, dict) or not all(isinstance(given.get(name), str) and given[name] for name in texts):
        raise InvalidInput("expected a RunAgentInput: a JSON object with threadId, runId and messages")
    if not isinstance(given.get("messages"), list) or not isinstance(given.get("resume") or [], list):
        raise InvalidInput("messages and resume of a RunAgentInput are lists")
    return given
