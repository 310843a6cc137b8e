"""Bugs of what several share: groups of commits, schedules' runs, links over boards, what was learned, top-ups."""

from __future__ import annotations

from .table import Mutant

GROUP = "hosts/alkaline_hosts/_file/group.py"
SCHEDULE, TRIGGERS = "alkaline_edge/triggers/schedule.py", "alkaline_edge/triggers/triggers.py"
GRAPH = "alkaline_edge/board/graph.py"
REMEMBERING, TOPPING = "alkaline_edge/runtime/remembering.py", "alkaline_edge/runtime/topping.py"
GROUPS = ("tests/hosts/test_file_groups.py", "tests/hosts/test_file_model.py")
SCHEDULES = ("tests/triggers/test_schedule.py", "tests/triggers/test_triggers.py")
LINKS = ("tests/board/test_links.py", "tests/board/test_board.py")
LEARNED = ("tests/runtime/test_remembering.py",)
TOP_UPS = ("tests/primitives/test_retrying.py", "tests/primitives/test_topping_up.py")

MUTANTS = [
    Mutant(
        "a commit joins those that wait on the loop of another thread",
        GROUP,
        "            if self._waiting and not self._is_ours():\n                return None\n",
        "",
        GROUPS,
    ),
    Mutant(
        "who is answered by another thread is not woken",
        GROUP,
        "        if loop.is_running() and loop is not asyncio._get_running_loop():",
        "        if loop.is_closed():",
        GROUPS,
    ),
    Mutant(
        "a check does not see what was put before it in its group",
        GROUP,
        "        written.update([(key, batch.id) for key, _ in batch.puts])\n",
        "",
        GROUPS,
    ),
    Mutant(
        "a commit whose caller was cancelled while it waited is written",
        GROUP,
        "    left = [one for one in waiting if not one.answer.done()]\n",
        "    left = waiting\n",
        GROUPS,
    ),
    Mutant(
        "the commits of a loop that was closed keep the place of others",
        GROUP,
        "            self._waiting = []\n            return True\n",
        "            return False\n",
        GROUPS,
    ),
    Mutant(
        "a tick behind the end of its schedule is started",
        SCHEDULE,
        "self.ends_at is not None and self.due > self.ends_at:",
        "self.ends_at is not None and self.due > self.ends_at + 86_400_000:",
        SCHEDULES,
    ),
    Mutant(
        "ticks of the past that are to come one behind the other run side by side",
        SCHEDULE,
        "        if self.running and not beside:\n",
        "        if self.running and beside:\n",
        SCHEDULES,
    ),
    Mutant(
        "a buffer holds the tick that came last",
        SCHEDULE,
        '(self.overlap == "buffer" and self.waiting is not None)',
        '(self.overlap == "buffer" and self.waiting == "")',
        SCHEDULES,
    ),
    Mutant(
        "a tick that waits is started though the schedule is paused",
        SCHEDULE,
        'if start is None and self.status != "paused" and self.waiting is not None',
        "if start is None and self.waiting is not None",
        SCHEDULES,
    ),
    Mutant(
        "a clock that was ahead holds its schedule up until the world is there",
        TRIGGERS,
        "        return found.updated_at > now + CLOCKS_DIFFER_MS\n",
        "        return found.updated_at > now * 2\n",
        SCHEDULES,
    ),
    Mutant(
        "a link that was undone is still found from its parent",
        GRAPH,
        "    moment.write.deletes.add(key_of(moment.board, parent, child.id))\n",
        "",
        LINKS,
    ),
    Mutant(
        "a task that waits for itself is no circle",
        GRAPH,
        "                return [goal, goal]\n",
        "                return []\n",
        LINKS,
    ),
    Mutant(
        "the durations that two processes have learned add up",
        REMEMBERING,
        "other.durations[-half:] + one.durations[-half:]",
        "other.durations + one.durations",
        LEARNED,
    ),
    Mutant(
        "a second top-up of a failed run takes the place of the first",
        TOPPING,
        "[a + b for a, b in zip(record.topped_up or (0, 0, 0), amounts, strict=True)]",
        "list(amounts)",
        TOP_UPS,
    ),
    Mutant(
        "a run that failed of something else is topped up",
        TOPPING,
        'if record.status != "failed" or not reopening.is_of_budget(record.failure):',
        'if record.status != "failed":',
        TOP_UPS,
    ),
    Mutant(
        "a top-up that is sent again is refused",
        TOPPING,
        "        if (await store.host.get([marker]))[0] is not None:\n            return\n",
        "",
        TOP_UPS,
    ),
    Mutant(
        "a failed run that changes while it is topped up is written over",
        TOPPING,
        "        write = Write({keys.record(record.id): record.version_tag, marker: None})\n",
        "        write = Write({marker: None})\n",
        TOP_UPS,
    ),
]
