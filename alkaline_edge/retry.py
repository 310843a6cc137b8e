"""When a step that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable

from .errors import AlkalineError, InvalidInput
from .limits import check_seconds
from .records import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff with a cap. The default is one attempt: nothing is retried unless asked for.

    ``max_attempts`` counts the first attempt. After attempt n the wait is ``min(cap, backoff * factor ** (n - 1))``
    seconds. ``retryable`` is asked with the exception that the step raised, live; without it, every Exception is
    retried except an error of the kernel (they do not pass by waiting). Attempts are recorded: they survive a crash.
    A step with ``at_most_once`` is retried by its own policy alone, and only where ``retryable`` says that the error
    came before the step could act; a time-out is not such an error.
    """

    max_attempts: int = 1
    backoff: float = 1.0
    factor: float = 2.0
    cap: float = 60.0
    retryable: Callable[[BaseException], bool] | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that could not be followed."""
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, (int, float)):
            raise InvalidInput(f"Retry(max_attempts=) is a number, not a {type(self.max_attempts).__name__}")
        if not self.max_attempts >= 1:
            raise InvalidInput(f"Retry(max_attempts={self.max_attempts}) would never run the step; give 1 or more")
        check_seconds(self.backoff, "Retry(backoff=)")
        check_seconds(self.cap, "Retry(cap=)")
        if isinstance(self.factor, bool) or not isinstance(self.factor, (int, float)) or not 1 <= self.factor < 1e300:
            raise InvalidInput("Retry(factor=) is a number of 1 or more, by which each wait is longer than the last")
        if self.retryable is not None and not callable(self.retryable):
            raise InvalidInput("Retry(retryable=) is a function of the exception that says whether to try again")

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
