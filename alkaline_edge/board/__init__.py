"""Tasks that people and agents share: claimed by one at a time, in an order that their dependencies and priorities set.

    board = Board(runtime, "work")
    await board.create("look it up", key="q1")
    await board.work(do, worker="w1")

Making a ``Board`` is all that it takes for the runtime to do what comes due of its tasks.
"""

from .board import Board, TaskPage, drive
from .claims import Claim
from .log import BoardEvent, Comment
from .moment import Head
from .tasks import Task

__all__ = ["Board", "Claim", "Task", "TaskPage", "BoardEvent", "Comment", "Head", "drive"]
