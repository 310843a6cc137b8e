"""When a step that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable

from .errors import AlkalineError, InvalidInput
from .records import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff with a cap. The default is one attempt: nothing is retried unless asked for.

    ``max_attempts`` counts the first attempt. After attempt n the wait is ``min(cap, backoff * factor ** (n - 1))``
    seconds. ``retryable`` is asked with the exception that the step raised, live; without it, every Exception is
    retried except an error of the kernel (they do not pass by waiting). Attempts are recorded: they survive a crash.
    """

    max_attempts: int = 1
    backoff: float = 1.0
    factor: float = 2.0
    cap: float = 60.0
    retryable: Callable[[BaseException], bool] | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that could not be followed."""
        if self.max_attempts < 1:
            raise InvalidInput(f"Retry(max_attempts={self.max_attempts}) would never run the step; give 1 or more")
        if not (self.backoff >= 0 and self.factor >= 1 and self.cap >= 0):
            raise InvalidInput("Retry wants backoff >= 0 and cap >= 0 (seconds) and factor >= 1")

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the failure of ``attempt`` (1 is the first)."""
        try:
            return min(self.cap, self.backoff * self.factor ** (attempt - 1))
        except OverflowError:
            return self.cap

    def wants(self, error: BaseException, attempt: int) -> bool:
        """Whether another attempt follows ``attempt``, which raised ``error``."""
        if attempt >= self.max_attempts or not isinstance(error, Exception):
            return False
        if self.retryable is not None:
            return bool(self.retryable(error))
        return not isinstance(error, AlkalineError)


ONCE = Retry()
