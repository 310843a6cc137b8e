"""Schedules: runs that are started by the clock, each tick exactly once, by whichever process gets there.

    triggers = Triggers(runtime)
    await triggers.create("nightly", "report", Cron("0 3 * * *", zone="Europe/Riga"))

Making ``Triggers`` is all that it takes for the runtime to drive schedules: ``run_due`` and ``serve`` do so with the
rest, and the time that ``run_due`` returns counts them in.
"""

from .schedule import Schedule
from .timing import Cron, Every
from .triggers import SchedulePage, Triggers

__all__ = ["Triggers", "Cron", "Every", "Schedule", "SchedulePage"]
