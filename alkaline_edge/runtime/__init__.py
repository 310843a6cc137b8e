"""The one async part of the kernel: a thin runtime around the machine."""

from .listing import Page
from .pace import in_thread
from .runtime import Meter, Recorded, Run, Runtime

__all__ = ["Meter", "Page", "Recorded", "Run", "Runtime", "in_thread"]
