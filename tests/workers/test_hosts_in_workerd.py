"""Each Cloudflare host against its real binding, in the current runtime and the oldest."""

from __future__ import annotations

from typing import Any

import pytest

from wasm.workers.harness import WorkerServer

NO_THREADS = {"threads_run_functions", "owners_are_known"}
CHECKS_HOLD = {"checks_are_refused_where_they_cannot_hold"}
ONE_HANDLE = {"handles_share_a_store"}
AWAITED = {"a_commit_without_a_wait"}
LATE = {"one_winner_of_a_race", "no_update_is_lost", "handles_share_a_store"}
CONDITIONAL = {
    "check_of_an_absent_key",
    "check_of_a_version",
    "same_bytes_are_a_new_version",
    "every_check_counts",
    "checks_of_other_keys",
    "a_recreated_key_is_another",
    "delete_put_and_check_together",
    "a_batch_that_only_checks",
    "one_winner_of_a_race",
    "no_update_is_lost",
    "handles_share_a_store",
}
SKIPPED = {
    "object/suite/conformance": NO_THREADS | CHECKS_HOLD | ONE_HANDLE,
    "object/suite/coordinating": NO_THREADS | CHECKS_HOLD | ONE_HANDLE | AWAITED,
    "object/suite/sealed": NO_THREADS | CHECKS_HOLD | ONE_HANDLE | AWAITED,
    "d1/conformance": NO_THREADS | CHECKS_HOLD | AWAITED,
    "kv/plain": NO_THREADS | CONDITIONAL | AWAITED,
    "kv/single": NO_THREADS | CHECKS_HOLD | LATE | AWAITED,
    "kv/coordinated": NO_THREADS | CHECKS_HOLD | AWAITED,
}
"""Cases that say that they do not apply, by host. Any other one must have passed."""


def outcomes(server: WorkerServer, host: str) -> dict[str, tuple[str, str]]:
    return {name: (outcome, message) for name, outcome, message in server.fetch(f"/{host}", seconds=300).json()}


def assert_conforms(found: dict[str, tuple[str, str]], skipped: set[str]) -> None:
    failed = {name: message for name, (outcome, message) in found.items() if outcome == "failed"}
    assert not failed
    assert {name for name, (outcome, _) in found.items() if outcome == "skipped"} == skipped
    assert len(found) > 30


@pytest.mark.parametrize("host", SKIPPED)
def test_conformance(current: WorkerServer, host: str) -> None:
    """The conformance suite passes inside a Worker, against the binding itself."""
    assert_conforms(outcomes(current, host), SKIPPED[host])


@pytest.mark.parametrize("host", ["d1/conformance", "d1/sealed", "kv/plain", "kv/single", "kv/coordinated"])
def test_conformance_in_the_oldest_runtime(oldest: WorkerServer, host: str) -> None:
    """So it does in the oldest runtime that is supported, with msgpack in pure Python."""
    assert_conforms(outcomes(oldest, host), SKIPPED.get(host, SKIPPED["d1/conformance"]))


def test_alarm_follows_the_commits(current: WorkerServer) -> None:
    """The alarm is at the lowest timer, nearer while something runs or waits, and moves only with a commit.

    What could not go on is looked after less and less often, also in the next lives of the object, until asked anew.
    """
    seen: dict[str, Any] = current.fetch("/object/alarms/alarms").json()
    watch = pytest.approx(10_000, abs=5_000)
    assert seen == {
        "nothing": None,
        "late timer": 900_000,
        "early timer": 500_000,
        "early timer gone": 900_000,
        "request": watch,
        "request consumed": 900_000,
        "running": watch,
        "running and early timer": watch,
        "nothing left": None,
        "conflict": "Conflict",
        "after the conflict": None,
        "repaired": 900_000,
        "far timer": pytest.approx(86_400_000, abs=5_000),
        "stuck": watch,
        "idle": [20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600, 3600, 3600],
        "idle in the next life": 3600,
        "asked": watch,
        "all gone": None,
    }


def test_lost_answers_of_d1_are_unknown(current: WorkerServer) -> None:
    """A commit whose answer D1 lost is UnknownOutcome whether or not it was applied, and it is whole or absent."""
    assert current.fetch("/d1_faults/lost_answers").json() == [
        ["before", 1, "UnknownOutcome", 0],
        ["before", 120, "UnknownOutcome", 0],
        ["after", 1, "UnknownOutcome", 1],
        ["after", 120, "UnknownOutcome", 120],
    ]


def test_schema_is_made_once_and_guarded(servers: Any) -> None:
    """Several hosts may make the schema at once; a deleted table and a newer schema are errors that say what to do."""
    seen = servers().fetch("/d1_faults/schema").json()
    assert seen["at once"] == ["Committed"] * 4
    assert seen["kept"] == 4
    assert seen["deleted"].startswith("StoreError: the database says it has our schema")
    assert seen["newer"].startswith("StoreError: this database has schema version 99")


@pytest.mark.parametrize(("host", "least"), [("object/largest", 1_990_000), ("d1", 1_490_000)])
def test_two_megabytes(current: WorkerServer, host: str, least: int) -> None:
    """The largest value fills the platform's row of 2 MB and comes back; one byte more is refused before it is sent."""
    seen = current.fetch(f"/{host}/largest").json()
    assert seen["size"] >= least
    assert seen["over"].startswith(f"InvalidInput: a value of {seen['size'] + 1} bytes is over")
    assert (seen["unsent"], seen["keys"], seen["same"]) == (True, ["size/most"], True)


def test_queries_are_refused_before_they_are_sent(current: WorkerServer) -> None:
    """With max_queries, a batch that would go over is ERR_STORE and nothing of it is written."""
    outcome, written, sent, after = current.fetch("/d1_faults/refused_queries").json()
    assert outcome.startswith("StoreError: this invocation has made 0 of its 2 D1 queries")
    assert (written, sent, after) == (0, 0, 1)


def test_a_step_is_one_query_and_one_round_trip(current: WorkerServer) -> None:
    """A run of n steps makes n queries and a constant number more: far under 1,000 in one invocation."""
    few, more = (current.fetch(f"/count?steps={steps}").json() for steps in (20, 120))
    assert more["queries"] - few["queries"] == 100
    assert more["round_trips"] - few["round_trips"] == 100
    assert few["queries"] <= 20 + 8


def test_two_from_one_snapshot_draw_different_random_values(servers: Any) -> None:
    """Workers that start from the same memory snapshot share no entropy, and neither do restarts."""
    server = servers()
    seen = [*server.fetch("/random").json(), *server.fetch("/random").json()]
    for _ in range(2):
        server.kill()
        server.start()
        seen += server.fetch("/random").json()
    assert len(set(seen)) == len(seen) == 8
