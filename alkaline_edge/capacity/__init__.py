"""What processes share that there is not enough of: limits of concurrency and rate, and named budgets, in the store.

limits = Limits(runtime)
await limits.set(Limit("model", concurrency=3, rate=60, per=60))
ask = limits.around("model", call_model)
"""

from ..names import Need
from ..runtime.learning import Learned, Learning
from ..runtime.limit import Limit
from .budgets import Budgets, SharedBudget
from .limits import Limits, LimitState

__all__ = ["Limit", "Limits", "LimitState", "Need", "Budgets", "SharedBudget", "Learning", "Learned"]
