"""``Budgets``: named budgets that runs of a store share. What a call may use is reserved before, and settled after."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from .. import keys, stored
from ..arguments import expect, expect_call
from ..budget import micros
from ..calling import info_parameter, is_awaitable, name_of, place_of
from ..context import RAISE, Context
from ..errors import BudgetExceeded, ConflictError, InvalidInput, NotFound
from ..host import Conflict
from ..limits import check_charge, check_seconds
from ..names import check_id, check_name
from ..runs import StepInfo
from ..runtime.runtime import Runtime
from ..runtime.write import Write
from ..structs import dataclass, field

HOLD_SECONDS = 3_600.0
MAX_RESERVED = 10_000
MAX_WAITING = 10_000
_TRIES = 100
_KEPT_KEYS, _KEPT_CALLS = 100, 256
"""Keys of top-ups, and of settled calls, that are remembered."""
_UNITS = ("tokens", "micro-usd")


@dataclass(slots=True)
class SharedBudget:
    """The budget ``name`` as it stands. ``limits``, ``spent`` are tokens and micro-dollars; a limit of None is none.

    ``reserved``: by the key of a call, what it may use and until when (ms since 1970). ``warn``: the share of a limit
    from which on it is ``warned``. ``settled``: keys of the calls that were settled last. ``waiting``: ids of runs that
    wait until there is more; ``telling``: those that are yet to be told of it, each with the number of that time, of
    which there were ``times``. ``topped_by``: keys of the last top-ups.
    ``version_tag``: the store's version of it. ERR_CONFLICT: too many calls are under way.
    """

    name: str
    limits: list[int | None] = field(default_factory=lambda: [None, None])
    spent: list[int] = field(default_factory=lambda: [0, 0])
    reserved: dict[str, list[int]] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)
    warn: float | None = None
    warned: bool = False
    waiting: list[str] = field(default_factory=list)
    times: int = 0
    topped_by: list[str] = field(default_factory=list)
    telling: list[list[Any]] = field(default_factory=list)
    version_tag: str | None = None

    def to_map(self) -> dict[str, Any]:
        """What is stored."""
        return stored.to_map(self)

    @classmethod
    def from_map(cls, values: Any, version_tag: str) -> SharedBudget:
        """The budget of a stored map; ERR_STORE for what is none."""
        return stored.from_map(cls, values, version_tag, "a budget in the store is damaged: restore it, or set it anew")

    def used(self, n: int) -> int:
        """What is spent or reserved of a unit."""
        return self.spent[n] + sum(each[n] for each in self.reserved.values())

    def left(self) -> list[int | None]:
        """What may still be reserved, None for no limit."""
        return [None if limit is None else max(0, limit - self.used(n)) for n, limit in enumerate(self.limits)]

    def forget_late(self, now: int) -> None:
        """A reservation that was not settled in time was used up, as far as anybody knows."""
        for key, (tokens, money, until) in list(self.reserved.items()):
            if until <= now:
                del self.reserved[key]
                self.settled = [*self.settled, key][-_KEPT_CALLS:]
                self.spent[0] += tokens
                self.spent[1] += money

    def reserve(self, key: str, amounts: list[int], until: int) -> str:
        """Put the amounts aside; the unit of which there is not enough, or "". The same key is put aside once."""
        if key in self.reserved or key in self.settled:
            return ""
        for n, limit in enumerate(self.limits):
            if limit is not None and self.used(n) + amounts[n] > limit:
                return _UNITS[n]
        if len(self.reserved) >= MAX_RESERVED:
            raise ConflictError(f"budget {self.name!r} has {MAX_RESERVED} calls under way; try again later")
        self.reserved[key] = [*amounts, until]
        return ""

    def has_more(self) -> None:
        """Whoever waits is to be told that there may be enough."""
        if self.waiting:
            self.times += 1
            self.telling += [[run, self.times] for run in self.waiting]
            self.waiting = []

    def reaches_warning(self) -> bool:
        """Whether the share from which on it is to be told of was reached just now."""
        if self.warn is None or self.warned:
            return False
        self.warned = any(limit and self.used(n) >= self.warn * limit for n, limit in enumerate(self.limits))
        return self.warned


class Budgets:
    """The named budgets of a runtime's store. ``on_warn`` is called with a budget when its share to warn at is reached.

    A call is charged by a key of its own: reserved again after a crash it is reserved once, settled again it is settled
    once. ``tokens`` and ``usd``, in dollars, are amounts everywhere; one that is none is ERR_INVALID_INPUT. What is not
    settled in ``hold`` seconds counts as used. So all calls together exceed a budget by no more than
    one of them uses beyond what it reserved.
    """

    def __init__(
        self,
        runtime: Runtime,
        on_warn: Callable[[SharedBudget], Any] | None = None,
        hold: float | timedelta = HOLD_SECONDS,
    ) -> None:
        expect(runtime, Runtime, "Budgets(runtime=)", "a Runtime")
        expect_call(on_warn, "Budgets(on_warn=)", "a function of a budget, or None")
        self._runtime, self._store, self._on_warn = runtime, runtime.store, on_warn
        self._hold = round(check_seconds(hold, "Budgets(hold=)", 0.001) * 1000)

    # --- verbs -----------------------------------------------------------------------------------------------------
    async def set(
        self, name: str, tokens: int | None = None, usd: float | None = None, *, warn: float | None = None
    ) -> SharedBudget:
        """Make a budget, or give one that is there other limits; what was spent stands. ``warn``: a share, say 0.8."""
        check_charge(0 if tokens is None else tokens, usd, "a budget")
        if warn is not None and (isinstance(warn, bool) or not isinstance(warn, (int, float)) or not 0 < warn <= 1):
            raise InvalidInput("warn is a share of the budget, above 0 and up to 1, or None")

        def change(found: SharedBudget | None, now: int) -> SharedBudget:
            made = found or SharedBudget(name)
            made.limits, made.warn, made.warned = [tokens, None if usd is None else micros(usd)], warn, False
            return made

        return await self._change(name, change)

    async def state(self, name: str) -> SharedBudget:
        """The budget as it stands; ERR_NOT_FOUND where there is none."""
        found = await self._find(name)
        if found is None:
            raise NotFound(f"there is no budget {name!r} in this store; make it with set({name!r}, tokens=...)")
        return found

    async def reserve(
        self, name: str, key: str, tokens: int = 0, usd: float | None = None, run: str | None = None
    ) -> None:
        """Put aside what a call may use, before it begins. More than is left is ERR_BUDGET_EXCEEDED, and nothing is.

        ``key`` is the call's, such as a step's idempotency key. ``run``: the run to signal when there is a top-up.
        """
        check_charge(tokens, usd, "reserve")
        refused, left = "", [0, 0]

        def change(found: SharedBudget | None, now: int) -> SharedBudget:
            nonlocal refused, left
            budget = _there(found, name)
            budget.forget_late(now)
            refused = budget.reserve(key, [tokens, micros(usd)], now + self._hold)
            left = [amount or 0 for amount in budget.left()]
            if refused and run is not None and run not in budget.waiting:
                budget.waiting = [*budget.waiting, run][-MAX_WAITING:]
            return budget

        await self._change(name, change)
        if refused:
            n = _UNITS.index(refused)
            raise BudgetExceeded(
                f"{(tokens, micros(usd))[n]:,} {refused} are more than the {left[n]:,} that budget {name!r} has left; "
                "nothing was reserved: top it up, or stop",
                unit=refused,
                budget=name,
            )

    async def settle(self, name: str, key: str, tokens: int = 0, usd: float | None = None) -> None:
        """Charge what a call has used in the end; what was reserved beyond that is free again, for runs that wait."""
        check_charge(tokens, usd, "settle")

        def change(found: SharedBudget | None, now: int) -> SharedBudget:
            budget = _there(found, name)
            reserved = budget.reserved.pop(key, None)
            if reserved is not None:
                budget.spent[0] += tokens
                budget.spent[1] += micros(usd)
                budget.settled = [*budget.settled, key][-_KEPT_CALLS:]
                if reserved[0] > tokens or reserved[1] > micros(usd):
                    budget.has_more()
            return budget

        await self._tell(await self._change(name, change))

    async def top_up(
        self, name: str, tokens: int = 0, usd: float | None = None, key: str | None = None
    ) -> SharedBudget:
        """Add to a budget's limits, and let the runs go on that wait for it. The same ``key`` counts once.

        Cut off, call it again with its key: then whoever was not told yet is.
        """
        check_charge(tokens, usd, "top_up")
        if key is not None:
            check_name(key, "the key of a top-up")

        def change(found: SharedBudget | None, now: int) -> SharedBudget:
            budget = _there(found, name)
            if key is None or key not in budget.topped_by:
                more = (tokens, micros(usd))
                budget.limits = [None if limit is None else limit + more[n] for n, limit in enumerate(budget.limits)]
                budget.warned = False
                budget.topped_by = [*budget.topped_by, *([] if key is None else [key])][-_KEPT_KEYS:]
            budget.has_more()
            return budget

        return await self._tell(await self._change(name, change))

    async def _tell(self, budget: SharedBudget) -> SharedBudget:
        """Signal the runs that are to be told that there is more."""
        name, told = budget.name, list(budget.telling)
        for run, number in told:
            with suppress(ConflictError, NotFound):  # it has ended meanwhile
                await self._runtime.signal(run, signal_of(name), number, dedupe=f"{name} {number}")

        def forget(found: SharedBudget | None, now: int) -> SharedBudget:
            left = _there(found, name)
            left.telling = [each for each in left.telling if each not in told]
            return left

        return await self._change(name, forget) if told else budget

    # --- in a workflow -----------------------------------------------------------------------------------------------
    async def step(
        self,
        ctx: Context,
        name: str,
        fn: Callable[..., Any],
        *args: Any,
        tokens: int = 0,
        usd: float | None = None,
        used: Callable[[Any], Any] | None = None,
        wait: bool = False,
        timeout: float | timedelta | None = None,
    ) -> Any:
        """As ``ctx.step(fn, *args)``, charged to a budget: ``tokens`` and ``usd`` are reserved before it begins.

        ``used``: what it has used, of its result: tokens, or (tokens, usd); without it what was reserved. One that
        fails settles at nothing. Where not enough is left it is ERR_BUDGET_EXCEEDED; with ``wait`` the run is suspended
        until ``top_up``, or for ``timeout`` seconds, and goes on where it stood.
        """
        step = self._charged(name, fn, tokens, usd, used)
        while True:
            try:
                return await ctx.step(name_of(fn), step, *args)
            except BudgetExceeded as error:
                if not wait or error.detail.get("budget") != name:
                    raise
                default = RAISE if timeout is None else None
                if await ctx.wait_for_signal(signal_of(name), timeout=timeout, default=default) is None:
                    raise

    def _charged(
        self, name: str, fn: Callable[..., Any], tokens: int, usd: float | None, used: Callable[[Any], Any] | None
    ) -> Callable[..., Awaitable[Any]]:
        if not callable(fn):
            raise InvalidInput("a step that is charged to a budget is a function")
        expect_call(used, "used", "a function of the result, or None")
        wants = info_parameter(fn)

        async def charged(*args: Any, step_info: StepInfo) -> Any:
            key = step_info.idempotency_key
            await self.reserve(name, key, tokens, usd, step_info.run_id)
            try:
                answer = _call(fn, wants, step_info, args)
                result = await answer if is_awaitable(answer) else answer
            except Exception:
                await self.settle(name, key)
                raise
            await self.settle(name, key, *_amounts(used(result) if used is not None else (tokens, usd)))
            return result

        return charged

    # --- the store -------------------------------------------------------------------------------------------------
    async def _find(self, name: str) -> SharedBudget | None:
        entry = (await self._store.host.get([keys.budget(check_id(name, "a budget's name"))]))[0]
        return None if entry is None else SharedBudget.from_map(self._store.opened(entry), entry.version)

    async def _change(self, name: str, change: Callable[[SharedBudget | None, int], SharedBudget]) -> SharedBudget:
        """Read, change, commit; again where others were quicker. What has not changed is not written."""
        store = self._store
        for attempt in range(_TRIES):
            found = await self._find(name)
            before = None if found is None else store.codec.encode(found.to_map())
            changed = change(found, store.host.now_ms())
            warns = changed.reaches_warning()
            data, key = store.codec.encode(changed.to_map()), keys.budget(name)
            if data == before:
                return changed
            if not isinstance(await store.commit(Write({key: changed.version_tag}, {key: data})), Conflict):
                if warns and self._on_warn is not None:
                    self._on_warn(changed)
                return changed
            spread = int.from_bytes(store.host.entropy(2), "big") / 65_536
            await store.host.sleep(min(0.1, 0.001 * 2 ** min(attempt, 7)) * spread)
        raise ConflictError(f"budget {name!r} was changed by others {_TRIES} times in a row; call again", budget=name)


def signal_of(name: str) -> str:
    """The name of the signal that says of a top-up."""
    return f"budget {name}"


def _there(found: SharedBudget | None, name: str) -> SharedBudget:
    if found is None:
        raise NotFound(f"there is no budget {name!r} in this store; make it with set({name!r}, tokens=...)")
    return found


def _call(fn: Callable[..., Any], wants: str | None, info: StepInfo, args: tuple[Any, ...]) -> Any:
    """Call a step's function, with its StepInfo where it wants one."""
    if wants is None:
        return fn(*args)
    place = place_of(fn, wants)
    return fn(*args[:place], info, *args[place:]) if place < len(args) else fn(*args, **{wants: info})


def _amounts(used: Any) -> tuple[Any, Any]:
    """Tokens and usd of what ``used`` has answered; ``settle`` checks both."""
    return (used[0], used[1]) if isinstance(used, tuple) and len(used) == 2 else (used, None)
