"""Temporal's Replayer over a history as its server would have written it: there is no live row without that server."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import harness
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio import activity, workflow
from temporalio.api.common.v1 import ActivityType, Payload, Payloads, WorkflowType
from temporalio.api.enums.v1 import EventType, TaskQueueKind
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.client import WorkflowHistory
from temporalio.converter import default
from temporalio.worker import Replayer


@activity.defn
async def step(n: int) -> Any:
    return harness.payload(n)


@workflow.defn(sandboxed=False)
class Sequence:
    @workflow.run
    async def run(self, count: int) -> int:
        for n in range(count):
            await workflow.execute_activity(step, n, start_to_close_timeout=timedelta(seconds=10))
        return count


@workflow.defn(sandboxed=False)
class Fan:
    @workflow.run
    async def run(self, count: int) -> int:
        await asyncio.gather(
            *(workflow.execute_activity(step, n, start_to_close_timeout=timedelta(seconds=10)) for n in range(count))
        )
        return count


class History:
    """Events in the order in which a server writes them."""

    def __init__(self, kind: str, count: int) -> None:
        self.events: list[HistoryEvent] = []
        self._queue = TaskQueue(name="q", kind=TaskQueueKind.TASK_QUEUE_KIND_NORMAL)
        self._convert = default().payload_converter
        event = self._add("WORKFLOW_EXECUTION_STARTED")
        started = event.workflow_execution_started_event_attributes
        started.workflow_type.CopyFrom(WorkflowType(name=kind))
        started.task_queue.CopyFrom(self._queue)
        started.input.CopyFrom(self._payloads(count))
        started.original_execution_run_id = started.first_execution_run_id = "00000000-0000-0000-0000-000000000001"
        started.workflow_task_timeout.FromSeconds(10)
        started.attempt = 1

    def _payloads(self, value: Any) -> Payloads:
        payload: Payload = self._convert.to_payload(value)
        return Payloads(payloads=[payload])

    def _add(self, name: str) -> HistoryEvent:
        number = len(self.events) + 1
        at = Timestamp(seconds=1_700_000_000 + number)
        kind = EventType.Value(f"EVENT_TYPE_{name}")
        event = HistoryEvent(event_id=number, event_time=at, event_type=kind)
        self.events.append(event)
        return event

    def turn(self) -> int:
        """A workflow task; the number of the event that completed it."""
        scheduled = self._add("WORKFLOW_TASK_SCHEDULED")
        scheduled.workflow_task_scheduled_event_attributes.task_queue.CopyFrom(self._queue)
        started = self._add("WORKFLOW_TASK_STARTED")
        started.workflow_task_started_event_attributes.scheduled_event_id = scheduled.event_id
        completed = self._add("WORKFLOW_TASK_COMPLETED")
        attributes = completed.workflow_task_completed_event_attributes
        attributes.scheduled_event_id, attributes.started_event_id = scheduled.event_id, started.event_id
        return completed.event_id

    def scheduled(self, n: int, turn: int) -> int:
        """An activity that a turn asked for."""
        event = self._add("ACTIVITY_TASK_SCHEDULED")
        attributes = event.activity_task_scheduled_event_attributes
        attributes.activity_id = str(n + 1)
        attributes.activity_type.CopyFrom(ActivityType(name="step"))
        attributes.task_queue.CopyFrom(self._queue)
        attributes.input.CopyFrom(self._payloads(n))
        attributes.start_to_close_timeout.FromSeconds(10)
        attributes.workflow_task_completed_event_id = turn
        return event.event_id

    def completed(self, n: int, scheduled: int) -> None:
        """Its end."""
        started = self._add("ACTIVITY_TASK_STARTED")
        started.activity_task_started_event_attributes.scheduled_event_id = scheduled
        event = self._add("ACTIVITY_TASK_COMPLETED")
        attributes = event.activity_task_completed_event_attributes
        attributes.scheduled_event_id, attributes.started_event_id = scheduled, started.event_id
        attributes.result.CopyFrom(self._payloads(harness.payload(n)))


async def _replayed(flow: Any, history: History, count: int) -> Any:
    replayer = Replayer(workflows=[flow])
    with harness.spent(count) as found:
        await replayer.replay_workflow(WorkflowHistory("a", history.events))
    found["bytes"] = sum(event.ByteSize() for event in history.events) / count
    return found


async def replay(count: int, folder: Path) -> Any:
    history = History("Sequence", count)
    turn = history.turn()
    for n in range(count):
        history.completed(n, history.scheduled(n, turn))
        turn = history.turn()
    return await _replayed(Sequence, history, count)


async def replay_fan(count: int, folder: Path) -> Any:
    history = History("Fan", count)
    turn = history.turn()
    scheduled = [history.scheduled(n, turn) for n in range(count)]
    for n, number in enumerate(scheduled):
        history.completed(n, number)
    history.turn()
    return await _replayed(Fan, history, count)


harness.main({"replay": replay, "replay_fan": replay_fan})
