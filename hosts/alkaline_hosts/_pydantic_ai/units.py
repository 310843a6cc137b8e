"""A unit of an agent's work (a model's request, a tool's call) as a step of the workflow that the agent runs in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Literal, TypedDict, cast

from pydantic import TypeAdapter
from pydantic_ai.durable_exec import (
    DurableOperationId,
    JournalCallableOperationBackend,
    ModelCompactMessagesId,
    ModelRequestId,
    RoleBasedOperationConfig,
    record_durable_unit,
)
from pydantic_ai.durable_exec._operation_backend import in_durable_unit
from pydantic_ai.exceptions import ModelAPIError, UserError
from pydantic_ai.messages import ModelResponse
from pydantic_ai.toolsets import ToolsetTool

from alkaline_edge import InvalidInput, Retry, StepError, StepInfo

from .errors import keep, rebuilt
from .surroundings import as_a_unit_sees_it, current

__all__ = ["KEY", "StepOptions", "Steps", "check_options", "options_of_tools", "usage_of"]

KEY = "alkaline"
"""The name, in a tool's metadata, of the options of its steps."""


class StepOptions(TypedDict, total=False):
    """What ``ctx.step`` takes: for a kind of unit, or in a tool's ``metadata={"alkaline": {...}}``."""

    retry: Retry
    timeout: float
    at_most_once: bool
    cost: int | Callable[[Any], Any]


class Steps(JournalCallableOperationBackend[StepOptions]):
    """Runs each unit as a step, where there is a workflow; elsewhere as it is."""

    async def execute(
        self,
        *,
        operation_id: DurableOperationId,
        name: str,
        body: Callable[[], Awaitable[object]],
        cache_key: tuple[object, ...],
        config: StepOptions,
    ) -> object:
        """As JournalCallableOperationBackend.execute: once recorded, the body is not run again."""
        ctx = current()
        if ctx is None or in_durable_unit():
            return await body()
        variables, ran = as_a_unit_sees_it(), False

        async def unit(info: StepInfo) -> object:
            nonlocal ran
            ran = True
            found = await asyncio.get_running_loop().create_task(_kept(body), context=variables(info))
            if of_a_model and (said := told_of(found)):
                info.publish(TELEMETRY, said)
            return found

        options: dict[str, Any] = dict(config)
        of_a_model = isinstance(operation_id, (ModelRequestId, ModelCompactMessagesId))
        if of_a_model:
            options.setdefault("cost", usage_of)
        try:
            return cast(object, await ctx.step(name, unit, **options))
        except StepError as error:
            raised = rebuilt(error)
            if raised is None:
                raise
            raise raised from None
        finally:
            record_durable_unit(executed=ran)


async def _kept(body: Callable[[], Awaitable[object]]) -> object:
    try:
        return await body()
    except ModelAPIError as error:
        keep(error)
        raise


_response: TypeAdapter[ModelResponse] = TypeAdapter(ModelResponse)


def usage_of(payload: Any) -> tuple[int, float | None]:
    """Tokens and, where the model's prices are known, dollars of what a unit of a model returned."""
    plain = payload if isinstance(payload, dict) else {}
    plain = plain["response"] if isinstance(plain.get("response"), dict) else plain
    if "usage" not in plain:
        return 0, None
    response = _response.validate_python(plain)
    usd: float | None = None
    with suppress(Exception):  # it has no name, or nobody knows its prices: the tokens count all the same
        usd = float(response.cost().total_price)
    return response.usage.total_tokens, usd


TELEMETRY = "telemetry"
"""The topic on which a step says what its span is to show: see docs/telemetry.md."""


def told_of(payload: Any) -> dict[str, str | int]:
    """What a model's response says of itself, by the names of the GenAI conventions; nothing of its content."""
    plain = payload if isinstance(payload, dict) else {}
    plain = plain["response"] if isinstance(plain.get("response"), dict) else plain
    usage = plain.get("usage")
    if not isinstance(usage, dict):
        return {}
    said = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": plain.get("provider_name"),
        "gen_ai.request.model": plain.get("model_name"),
        "gen_ai.response.model": plain.get("model_name"),
        "gen_ai.usage.input_tokens": usage.get("input_tokens"),
        "gen_ai.usage.output_tokens": usage.get("output_tokens"),
        "gen_ai.usage.cache_read.input_tokens": usage.get("cache_read_tokens") or None,
        "gen_ai.response.finish_reasons": plain.get("finish_reason"),
    }
    return {name: value for name, value in said.items() if isinstance(value, str | int)}


_TAKEN = StepOptions.__optional_keys__


def check_options(options: StepOptions, what: str) -> StepOptions:
    """``options``, where a step takes them; ERR_INVALID_INPUT otherwise."""
    if not isinstance(options, dict) or not options.keys() <= _TAKEN:
        raise InvalidInput(f"{what} is a dict with some of {', '.join(sorted(_TAKEN))}; got {options!r:.100}")
    return options


def options_of_tools(tool: StepOptions, others: dict[str, StepOptions]) -> RoleBasedOperationConfig[StepOptions]:
    """``others`` by role, and for tools what a tool's metadata says over ``tool``; False there: no step."""

    def of(operation_id: DurableOperationId, each: object | None, name: str) -> StepOptions | Literal[False]:
        metadata = each.tool_def.metadata if isinstance(each, ToolsetTool) else None
        said = (metadata or {}).get(KEY)
        if said is False:
            return False
        if said is not None and not (isinstance(said, dict) and said.keys() <= _TAKEN):
            raise UserError(
                f"the metadata {KEY!r} of tool {name!r} is False, or a dict with some of {', '.join(sorted(_TAKEN))}; "
                f"got {said!r:.100}"
            )
        return cast(StepOptions, {**tool, **(said or {})})

    return RoleBasedOperationConfig(
        model=others["model"], event=others["event"], capability=others["capability"], tool=tool, resolve_tool=of
    )
