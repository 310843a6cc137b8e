"""Tokens and money: what a run may spend, and what it has spent. Pure bookkeeping; the charges are history."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .errors import BudgetExceeded, InvalidInput
from .limits import check_charge, check_seconds
from .structs import dataclass, field

TOP_UP = "alkaline.top_up"
"""The signal by which a run is topped up: nobody else can send one of that name."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run and its children together, in ``tokens`` and ``usd``; None is unlimited.

    ``usd`` are dollars, counted in whole micro-dollars. ``seconds``: how long the run may take since its start, a
    number or a timedelta; looked at when a step begins. ``on_exceeded``: what happens when one of them is used up:
    ``fail`` raises ERR_BUDGET_EXCEEDED, ``pause`` holds the run at its next step until ``Runtime.top_up``, and there it
    goes on. ``warn``: the share of tokens or usd, such as 0.8, from which on listeners are told BudgetWarned. What is
    none of these is ERR_INVALID_INPUT.
    """

    tokens: int | None = None
    usd: float | None = None
    seconds: float | timedelta | None = None
    on_exceeded: str = "fail"
    warn: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits that are no amounts."""
        if self.seconds is not None:
            check_seconds(self.seconds, "Budget(seconds=)", 0.001)
        if self.on_exceeded not in ("fail", "pause"):
            raise InvalidInput(f'Budget(on_exceeded=) is "fail" or "pause", not {self.on_exceeded!r}')
        check_share(self.warn, "Budget(warn=)")
        try:
            check_charge(0 if self.tokens is None else self.tokens, self.usd, "a Budget")
        except InvalidInput as error:
            raise InvalidInput(f"{error}: a Budget's limits are 0 or more; leave one out for no limit") from None

    def policy(self) -> list[Any] | None:
        """What the header of a run holds of it beside its limits; None where that is what every budget has."""
        if self.seconds is None and self.on_exceeded == "fail" and self.warn is None:
            return None
        ms = None if self.seconds is None else round(check_seconds(self.seconds, "Budget(seconds=)") * 1000)
        return [self.on_exceeded, self.warn, ms, None]


def check_share(share: Any, what: str) -> None:
    """InvalidInput unless ``share`` is None, or a number above 0 and up to 1."""
    number = isinstance(share, (int, float)) and not isinstance(share, bool)
    if share is not None and not (number and 0 < share <= 1):
        raise InvalidInput(f"{what} is a share above 0 and up to 1, or None")


def check_plain(budget: Budget | None, what: str) -> None:
    """InvalidInput for a budget that says more than tokens and usd, where no more can be kept."""
    if budget is not None and budget.policy() is not None:
        raise InvalidInput(
            f"the budget of {what} has tokens and usd; seconds, on_exceeded and warn are for runs that are started by "
            "themselves, and their children have the same"
        )


def micros(usd: float | None) -> int:
    """Whole micro-dollars: sums of floats would depend on their order."""
    return 0 if usd is None else round(usd * 1_000_000)


@dataclass(slots=True)
class Account:
    """One budget of the chain that a run spends from: its own, or that of an ancestor which it shares.

    ``run`` is the random run id of the run that owns the budget. ``tokens`` and ``micros`` are what all who share the
    account are known to have spent: exact as of this run's last charge.
    """

    run: str
    tokens_limit: int | None
    micros_limit: int | None
    tokens: int = 0
    micros: int = 0

    def header(self) -> list[Any]:
        """What a child is told of this account."""
        return [self.run, self.tokens_limit, self.micros_limit]


@dataclass(slots=True)
class Purse:
    """All that a run knows of money: the accounts it spends from, its own charges, and its reservations.

    A run that has budgeted children, or is one, shares its accounts: then each charge is added to a shared key in the
    same commit, and comes back with the totals.
    """

    accounts: list[Account] = field(default_factory=list)
    shared: bool = False
    tokens: int = 0
    micros: int = 0
    tokens_reserved: int = 0
    micros_reserved: int = 0
    policy: list[Any] | None = None
    """As in the header: what happens when a limit is reached, the share to warn at, how many ms the run may take, and
    since when (ms since 1970)."""
    warned: bool = False

    @property
    def pauses(self) -> bool:
        """Whether a step that the budget has no room for waits for a top-up."""
        return self.policy is not None and self.policy[0] == "pause"

    def begin(self, now_ms: int) -> None:
        """The run's time begins to count, if it does not already."""
        if self.policy is not None and self.policy[3] is None:
            self.policy = [*self.policy[:3], now_ms]

    def top_up(self, amounts: Any) -> bool:
        """Raise every limit that the run spends from; False for what are no amounts."""
        if type(amounts) is not list or len(amounts) != 3 or not all(type(n) is int and n >= 0 for n in amounts):
            return False
        tokens, money, ms = amounts
        for account in self.accounts:
            account.tokens_limit = None if account.tokens_limit is None else account.tokens_limit + tokens
            account.micros_limit = None if account.micros_limit is None else account.micros_limit + money
        if self.policy is not None and self.policy[2] is not None:
            self.policy = [*self.policy[:2], self.policy[2] + ms, self.policy[3]]
        self.warned = False
        return True

    def reaches_warning(self) -> tuple[str, int, int] | None:
        """The unit, what is used and the limit, where the share to warn at was reached since this was asked last."""
        if self.policy is None or self.policy[1] is None or self.warned or not self.accounts:
            return None
        own = self.accounts[-1]
        for unit, limit, used in (
            ("tokens", own.tokens_limit, own.tokens),
            ("micro-usd", own.micros_limit, own.micros),
        ):
            if limit and used >= self.policy[1] * limit:
                self.warned = True
                return unit, used, limit
        return None

    def check_time(self, now_ms: int, what: str) -> None:
        """BudgetExceeded if the run has taken longer than it may."""
        if self.policy is None or self.policy[2] is None or self.policy[3] is None:
            return
        limit, taken = self.policy[2], now_ms - self.policy[3]
        if taken >= limit:
            raise BudgetExceeded(
                f"{what} would begin {taken / 1000:g} seconds after the run did, and its budget is {limit / 1000:g}; "
                "start the run with a larger Budget, or top it up if that is to pause",
                unit="seconds",
                limit=limit / 1000,
                spent=taken / 1000,
            )

    def charge(self, tokens: int, micro_usd: int) -> None:
        """Book a charge. It is booked even when it goes over: it has been spent."""
        self.tokens += tokens
        self.micros += micro_usd
        for account in self.accounts:
            account.tokens += tokens
            account.micros += micro_usd

    def observe(self, totals: list[list[int]]) -> None:
        """Take over the accounts' totals, as a commit found them."""
        for account, (tokens, micro_usd) in zip(self.accounts, totals, strict=False):
            account.tokens, account.micros = tokens, micro_usd

    def check(self, tokens: int, micro_usd: int, what: str) -> None:
        """BudgetExceeded if ``what``, at that cost on top of charges and reservations, goes over a limit."""
        for account in self.accounts:
            for unit, limit, used, reserved, wanted in (
                ("tokens", account.tokens_limit, account.tokens, self.tokens_reserved, tokens),
                ("micro-usd", account.micros_limit, account.micros, self.micros_reserved, micro_usd),
            ):
                if limit is not None and used + reserved + wanted > limit:
                    held = f" and {reserved} reserved by steps in flight" if reserved else ""
                    raise BudgetExceeded(
                        f"{what} wants {wanted} {unit}, but {used} of {limit} are spent{held}; "
                        "start the run with a larger Budget, or let it spend less",
                        unit=unit,
                        limit=limit,
                        spent=used,
                        reserved=reserved,
                        wanted=wanted,
                    )

    def over(self, what: str) -> BudgetExceeded | None:
        """The error to raise if charges alone are over a limit, otherwise None."""
        for account in self.accounts:
            for unit, limit, used in (
                ("tokens", account.tokens_limit, account.tokens),
                ("micro-usd", account.micros_limit, account.micros),
            ):
                if limit is not None and used > limit:
                    return BudgetExceeded(
                        f"{what} brought the spending to {used} {unit}, over the limit of {limit}; "
                        "start the run with a larger Budget, or let it spend less",
                        unit=unit,
                        limit=limit,
                        spent=used,
                    )
        return None

    def reserve(self, tokens: int, micro_usd: int) -> None:
        """Hold an amount for something in flight; give it back with negative amounts."""
        self.tokens_reserved += tokens
        self.micros_reserved += micro_usd

    def spent(self) -> dict[str, Any]:
        """What the record shows of the run's own charges: ``{"tokens": int, "usd": float}``."""
        return {"tokens": self.tokens, "usd": self.micros / 1_000_000}
