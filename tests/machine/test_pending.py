"""Pending: what the handler asked for, until its event comes, and what it no longer wants."""

from __future__ import annotations

from typing import Any

from alkaline_edge import Context, workflow
from alkaline_edge import events as ev
from alkaline_edge.codec import Codec
from alkaline_edge.machine.commands import AwaitSignal, CancelChild, RunStep, StartChild, StartTimer
from alkaline_edge.machine.execution import Execution, Sources
from alkaline_edge.runs import Header


def machine(fn: Any) -> Execution:
    """A machine that has run up to its first wait."""
    found = workflow(fn)
    header = Header("a", "0" * 12, found.name, 1, chain=[found.name])
    made = Execution(found, header, None, Codec(), Sources(lambda: 1_000, bytes), Context)
    made.start(1_000)
    made.feed([])
    return made


def test_commands_stand_in_the_order_of_issue_and_go_with_their_event() -> None:
    """By id; what is awaited is told in words."""

    async def flow(ctx: Context, _: Any) -> None:
        await ctx.all(ctx.step("first", print), ctx.sleep(5), ctx.wait_for_signal("go"))

    one = machine(flow)
    assert [type(command) for command in one.commands.values()] == [RunStep, StartTimer, AwaitSignal]
    assert one.waits_in_words() == ["step first", "timer sleep", "signal go"]
    id = next(iter(one.commands))
    assert one.waits_for(id)
    command: Any = one.known(id)
    one.feed_live([(1_000, ev.StepCompleted(ev.STEP_COMPLETED, id, "first", command.digest, None))])
    assert id not in one.commands
    assert not one.waits_for(id)
    one.set_aside()


def test_the_loser_of_a_race_is_withdrawn_and_known_still() -> None:
    """Its step is to be stopped, a child that was asked for is to be cancelled, and neither is awaited."""

    async def flow(ctx: Context, _: Any) -> None:
        await ctx.race(go=ctx.wait_for_signal("go"), slow=ctx.step("slow", print), kid=ctx.child("kid"))
        await ctx.wait_for_signal("more")

    one = machine(flow)
    agenda = one.attend()
    ids = {type(command): id for id, command in one.commands.items()}
    one.feed_live([(1_000, ev.SignalReceived(ev.SIGNAL_RECEIVED, "e1", "go", None))])
    assert agenda.stopped == [ids[RunStep]]
    assert set(one.withdrawn) == {ids[RunStep], ids[StartChild]}
    assert isinstance(one.commands[f"cancel {ids[StartChild]}"], CancelChild)
    assert one.waits_in_words() == ["signal more"]
    assert {type(command) for command in one.asked_for()} == {AwaitSignal, RunStep, StartChild}
    one.set_aside()
