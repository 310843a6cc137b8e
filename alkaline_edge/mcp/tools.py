"""``durable_tool``: a call of an MCP server's tool as a step of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from ..context import Context
from ..errors import InvalidInput
from ..failures import StepError
from ..names import check_name
from ..retry import Retry
from ..runs import StepInfo
from .asking import Answerer, answers, questions_in
from .failing import INVALID_PARAMS, ToolFailed, failure_of, revived
from .reaching import Call, check_client, reach
from .results import MAX_RESULT, tagged

__all__ = ["durable_tool"]

MAX_ROUNDS = 10
"""Times that one call may ask for something before it is given up."""
POLL_SECONDS = 1.0
"""Between two calls of a server that asks for nothing but to be called again."""


async def durable_tool(
    ctx: Context,
    client: Any,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    cost: int | Callable[[Any], Any] | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
    at_most_once: bool = False,
    server: str = "",
    max_bytes: int = MAX_RESULT,
    answer: Answerer | None = None,
    answer_timeout: float | timedelta | None = None,
    meta: Callable[[StepInfo], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Call a tool of an MCP server as a step: once recorded, its result is never asked for again.

    ``client`` is an ``mcp.Client`` or ``ClientSession``, fastmcp's ``Client``, any object with
    ``call_tool(name, arguments)``, an async function of these two, or a function without parameters that makes one,
    which is then opened for this call (``alkaline_hosts.mcp.mcp_client`` gives such). The step's idempotency key goes
    with the call, in ``_meta`` under ``alkaline.dev/idempotency-key``; ``cost``, ``retry``, ``timeout`` (seconds, of
    one attempt) and ``at_most_once`` are those of ``ctx.step``. A ``retry`` is asked with a ``ToolFailed``. ``meta``
    gives more of the call's ``_meta`` for the step's info, as ``Telemetry.meta`` does the span's ``traceparent``; it is
    recorded nowhere.

    Returns a map: ``content`` (the blocks), ``structured``, ``is_error`` (the tool's own error is a result, which a
    model can read), ``truncated`` where more than ``max_bytes`` came, ``server`` (as it is named here), ``tool`` and
    ``untrusted``, always True: whatever is in it was written by the server. Raises ``ToolFailed`` where there is no
    result. A name or a ``max_bytes`` that can't be is ERR_INVALID_INPUT.

    A server may ask for input first. Each question is emitted as ``mcp.input_required``, with the name of the signal
    that answers it (``{"action": "accept", "content": {...}}``, or decline, or cancel); the run is suspended meanwhile
    and may go on in another process. After ``answer_timeout``, in seconds, the answer is cancel. ``answer(question)``,
    an async function of the workflow, answers in their place, also what is no elicitation.
    """
    step = _checked(client, name, max_bytes, meta)
    call = _calling(client, server, max_bytes, meta)
    given: tuple[Any, ...] = ()
    for number in range(MAX_ROUNDS + 1):
        charge = _of_result(cost) if callable(cost) else cost if not number else None
        try:
            reply = await ctx.step(
                step,
                call,
                name,
                dict(arguments or {}),
                *given,
                cost=charge,
                retry=retry,
                timeout=timeout,
                at_most_once=at_most_once,
            )
        except StepError as error:
            failed = revived(error)
            if given and isinstance(failed, ToolFailed) and failed.detail.get("rpc") == INVALID_PARAMS:
                given = ()  # the server knows no more of the call that it had begun: from the top
                continue
            raise failed from None
        if "result" in reply:
            result: dict[str, Any] = reply["result"]
            return result
        if not reply["questions"]:
            await ctx.sleep(POLL_SECONDS)  # it only wants to be called again
        if number < MAX_ROUNDS:
            given = (await answers(ctx, reply["questions"], answer, answer_timeout) or None, reply["state"])
    raise ToolFailed(f"tool {name!r} asked {MAX_ROUNDS + 1} times, and has no result yet", "unanswered")


def _checked(client: Any, name: Any, max_bytes: Any, meta: Any) -> str:
    """The name of the step; InvalidInput for what can't be, before anything is recorded."""
    if not isinstance(name, str) or not name:
        raise InvalidInput(f"a tool's name is a text of 1 character or more, not {name!r:.40}")
    step = check_name(f"mcp {name}", "a tool's name, with mcp before it,")
    check_client(client)
    if not isinstance(max_bytes, int) or isinstance(max_bytes, bool) or max_bytes < 0:
        raise InvalidInput(f"max_bytes of a tool's result is a whole number from 0, not {max_bytes!r:.40}")
    if meta is not None and not callable(meta):
        raise InvalidInput(f"meta of a tool's call is a function of the step's info, not a {type(meta).__name__}")
    return step


def _calling(
    client: Any, server: str, max_bytes: int, meta: Callable[[StepInfo], Mapping[str, Any]] | None
) -> Callable[..., Any]:
    """The function of the step: one round of a call."""

    async def call(
        name: str,
        arguments: dict[str, Any],
        responses: dict[str, Any] | None = None,
        state: str | None = None,
        *,
        info: StepInfo,
    ) -> dict[str, Any]:
        more = {} if meta is None else dict(meta(info))
        try:
            raw = await reach(client, Call(name, arguments, info.idempotency_key, responses, state, more))
            asked = questions_in(raw, name, server, info.command_id)
            return asked or {"result": tagged(raw, name, server, max_bytes)}
        except Exception as error:
            failed = failure_of(error, name)
            if failed is None:
                raise
            raise failed from error

    return call


def _of_result(cost: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """``cost`` of the result alone: a round that asks for something is not the end of the call."""

    def charged(reply: dict[str, Any]) -> Any:
        return cost(reply["result"]) if "result" in reply else 0

    return charged
