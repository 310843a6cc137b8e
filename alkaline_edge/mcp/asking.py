"""What a server asks for in the middle of a call, and how somebody outside answers: by a signal."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any

from ..context import Context
from .failing import ToolFailed
from .results import Unfit, fitted

__all__ = ["Answerer", "answers", "questions_in"]

Answerer = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
MAX_QUESTIONS = 32
"""Of one round."""
MAX_QUESTION = 64 * 1024
"""Bytes of all questions of a round, and of the state that goes back with their answers."""
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_ACTIONS = ("accept", "decline", "cancel")
_EXPIRED = {"action": "cancel"}


def questions_in(raw: Any, tool: str, server: str, command_id: str) -> dict[str, Any] | None:
    """The questions of a round as they are recorded, and the server's state; None of a result that is final.

    The signal of each is named by the step that asked as well as by the server's key, so that no server gets an
    answer that was meant for another.
    """
    plain = raw.model_dump(by_alias=True, mode="json", exclude_none=True) if hasattr(raw, "model_dump") else raw
    if not isinstance(plain, Mapping) or plain.get("resultType") != "input_required":
        return None
    asked, state = plain.get("inputRequests") or {}, plain.get("requestState")
    try:
        if not isinstance(asked, Mapping) or len(asked) > MAX_QUESTIONS:
            raise Unfit
        asked, state = fitted([dict(asked), state], [MAX_QUESTION])
    except Unfit:
        raise ToolFailed(
            f"tool {tool!r} asks for more than {MAX_QUESTIONS} things or {MAX_QUESTION} bytes of it", "invalid"
        ) from None
    questions: list[dict[str, Any]] = []
    for number, (key, request) in enumerate(asked.items()):
        request = request if isinstance(request, dict) else {}
        name = key if _NAME.fullmatch(key) else str(number)
        questions.append(
            {
                "untrusted": True,
                "signal": f"elicit:{command_id}:{name}",
                "server": server,
                "tool": tool,
                "key": key,
                "method": request.get("method"),
                "params": request.get("params"),
            }
        )
    return {"questions": questions, "state": state}


async def answers(
    ctx: Context, questions: list[dict[str, Any]], answer: Answerer | None, timeout: float | timedelta | None
) -> dict[str, Any]:
    """Answers to all of ``questions``, by the server's keys; awaited at the same time."""
    given = await ctx.all(*(_answered(ctx, question, answer, timeout) for question in questions))
    return {question["key"]: one for question, one in zip(questions, given, strict=True)}


async def _answered(
    ctx: Context, question: dict[str, Any], answer: Answerer | None, timeout: float | timedelta | None
) -> dict[str, Any]:
    if answer is not None:
        return await answer(question)
    if question["method"] != "elicitation/create":
        raise ToolFailed(
            f"tool {question['tool']!r} asks for {str(question['method'])[:100]}, which nobody here gives; "
            "durable_tool(answer=) may",
            "unanswered",
        )
    ctx.emit("mcp.input_required", question)
    ends = None if timeout is None else ctx.now() + _as_delta(timeout)
    while True:
        left = None if ends is None else max((ends - ctx.now()).total_seconds(), 0)
        payload = await ctx.wait_for_signal(question["signal"], left, default=_EXPIRED)
        wrong = _wrong(payload)
        if not wrong:
            return dict(payload)
        ctx.emit("mcp.input_refused", {"signal": question["signal"], "reason": wrong})


def _as_delta(timeout: float | timedelta) -> timedelta:
    return timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)


def _wrong(payload: Any) -> str:
    """Why that is no answer; empty for one. A signal may come from anybody, and a wrong one must not end the run."""
    if not isinstance(payload, dict) or payload.get("action") not in _ACTIONS:
        return 'an answer is {"action": "accept" | "decline" | "cancel", "content": {...}}'
    if payload.keys() - {"action", "content"} or not isinstance(payload.get("content", {}), dict):
        return "an answer has an action and, where it accepts, a content that is a map"
    return ""
