"""Tokens and money: what a run may spend, and what it has spent. Pure bookkeeping; the charges are history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .errors import BudgetExceeded, InvalidInput


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run and all of its children together; None is unlimited. ``usd`` is counted in whole micro-dollars."""

    tokens: int | None = None
    usd: float | None = None

    def __post_init__(self) -> None:
        """Refuse negative limits."""
        if (self.tokens is not None and self.tokens < 0) or (self.usd is not None and self.usd < 0):
            raise InvalidInput("a Budget's limits are 0 or more; leave one out for no limit")


def micros(usd: float | None) -> int:
    """Whole micro-dollars: sums of floats would depend on their order."""
    return 0 if usd is None else round(usd * 1_000_000)


@dataclass(slots=True)
class Purse:
    """A run's account: limits, charges, and what is reserved for steps and children in flight."""

    tokens_limit: int | None = None
    micros_limit: int | None = None
    tokens: int = 0
    micros: int = 0
    tokens_reserved: int = 0
    micros_reserved: int = 0

    def charge(self, tokens: int, micro_usd: int) -> None:
        """Book a charge. It is booked even when it goes over: it has been spent."""
        self.tokens += tokens
        self.micros += micro_usd

    def check(self, tokens: int = 0, micro_usd: int = 0, what: str = "the next step") -> None:
        """BudgetExceeded if ``what``, costing that much on top of charges and reservations, would go over a limit."""
        for unit, limit, used, reserved, wanted in (
            ("tokens", self.tokens_limit, self.tokens, self.tokens_reserved, tokens),
            ("micro-usd", self.micros_limit, self.micros, self.micros_reserved, micro_usd),
        ):
            if limit is None:
                continue
            if used + reserved + wanted > limit or (wanted == 0 and used + reserved >= limit and used > limit):
                held = f" and {reserved} reserved by steps and children in flight" if reserved else ""
                raise BudgetExceeded(
                    f"{what} needs {wanted} {unit}, but {used} of {limit} are spent{held}; "
                    "start the run with a larger Budget, or let it spend less",
                    unit=unit, limit=limit, spent=used, reserved=reserved, wanted=wanted,
                )

    def reserve(self, tokens: int, micro_usd: int) -> None:
        """Hold an amount for something in flight; give it back with negative amounts."""
        self.tokens_reserved += tokens
        self.micros_reserved += micro_usd

    def remaining(self) -> tuple[int | None, int | None]:
        """Tokens and micro-dollars that nobody has spent or reserved; None: unlimited."""
        tokens = None if self.tokens_limit is None else max(0, self.tokens_limit - self.tokens - self.tokens_reserved)
        money = None if self.micros_limit is None else max(0, self.micros_limit - self.micros - self.micros_reserved)
        return tokens, money

    def spent(self) -> dict[str, Any]:
        """What the record shows: ``{"tokens": int, "usd": float}``."""
        return {"tokens": self.tokens, "usd": self.micros / 1_000_000}
