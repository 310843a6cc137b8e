"""Tokens and money: what a run may spend, and what it has spent. Pure bookkeeping; the charges are history."""

from __future__ import annotations

from typing import Any

from .errors import BudgetExceeded, InvalidInput
from .limits import check_charge
from .records import dataclass, field


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run and its children together; None is unlimited. ``usd`` is counted in whole micro-dollars."""

    tokens: int | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits that are no amounts."""
        try:
            check_charge(0 if self.tokens is None else self.tokens, self.usd, "a Budget")
        except InvalidInput as error:
            raise InvalidInput(f"{error}: a Budget's limits are 0 or more; leave one out for no limit") from None


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
