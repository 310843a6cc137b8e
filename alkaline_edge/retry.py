"""When a step that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable

from .errors import AlkalineError, InvalidInput
from .limits import check_seconds
from .structs import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential backoff with a cap. The default is one attempt: nothing is retried unless asked for.

    ``max_attempts`` counts the first attempt. After attempt n the wait is ``min(cap, backoff * factor ** (n - 1))``
    seconds. ``retryable`` is asked with the exception that the step raised, live; without it, every Exception is
    retried except an error of the kernel (they do not pass by waiting). Attempts are recorded: they survive a crash.
    A step with ``at_most_once`` is retried by its own policy alone, and only where ``retryable`` says that the error
    came before the step could act; a time-out is not such an error.

    ``while_offline``: where the host says that there is no network, such as a browser's tab, the step waits for it and
    is not started; an attempt that fails while there is none counts for nothing, and is made again once there is. Not
    so one of a step with ``at_most_once``. A host that can't tell is online.
    """

    max_attempts: int = 1
    backoff: float = 1.0
    factor: float = 2.0
    cap: float = 60.0
    retryable: Callable[[BaseException], bool] | None = None
    while_offline: bool = False

    def __post_init__(self) -> None:
        """Refuse a policy that could not be followed."""
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, (int, float)):
            raise InvalidInput(f"Retry(max_attempts=) is a number, not a {type(self.max_attempts).__name__}")
        if not self.max_attempts >= 1:
            raise InvalidInput(f"Retry(max_attempts={self.max_attempts}) would never run the step; give 1 or more")
        for name in ("backoff", "cap"):  # a Decimal, a timedelta: what is multiplied and compared is a float
            object.__setattr__(self, name, check_seconds(getattr(self, name), f"Retry({name}=)"))
        if isinstance(self.factor, bool) or not isinstance(self.factor, (int, float)) or not 1 <= self.factor < 1e300:
            raise InvalidInput("Retry(factor=) is a number of 1 or more, by which each wait is longer than the last")
        if not isinstance(self.while_offline, bool):
            raise InvalidInput("Retry(while_offline=) is True or False: whether to wait while there is no network")
        if self.retryable is not None and not callable(self.retryable):
            raise InvalidInput("Retry(retryable=) is a function of the exception that says whether to try again")

    def delay(self, attempt: int) -> float:
        """Seconds to wait after the failure of ``attempt`` (1 is the first)."""
        try:
            longer = float(self.factor) ** (attempt - 1)  # of an int it would have as many digits as there are attempts
        except OverflowError:
            return self.cap if self.backoff else 0.0
        return min(self.cap, self.backoff * longer)

    def wants(self, error: BaseException, attempt: int) -> bool:
        """Whether another attempt follows ``attempt``, which raised ``error``."""
        if attempt >= self.max_attempts or not issubclass(type(error), Exception):
            return False
        if self.retryable is not None:
            return bool(self.retryable(error))
        return not issubclass(type(error), AlkalineError)


ONCE = Retry()
