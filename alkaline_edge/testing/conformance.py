"""The suite that every host must pass.

    results = await run_conformance(maker, gather=asyncio.gather)
    print(format_results(results))

``maker`` is an async function without arguments that gives a fresh, empty store at each call: an object with
``open()`` and ``destroy()`` (see Store), or a bare Host where a second handle can't be had. A result has ``name``,
``ok`` and ``message``, which is written for the author of the host. The suite needs no pytest; with pytest, one test
per case is ``asyncio.run(check_case(case, maker, gather=asyncio.gather))``, parametrized over CASES.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from ..errors import AlkalineError
from . import cases_platform, cases_reading, cases_writing
from .stage import Case, Gather, Maker, Result, Skipped, Stage, Store

__all__ = ["CASES", "Case", "Result", "Store", "check_case", "format_results", "run_conformance"]

_CONDITIONAL = ("checks",)
_RACES = ("conditional", "read_your_writes")
_ALL = (
    (cases_reading.get_answers_in_order, ()),
    (cases_reading.get_takes_many_keys, ()),
    (cases_reading.version_is_the_batch, ()),
    (cases_reading.any_bytes_are_kept, ()),
    (cases_reading.large_values_are_kept, ()),
    (cases_reading.values_are_copied, ()),
    (cases_reading.list_is_in_ascii_order, ()),
    (cases_reading.list_keeps_to_its_prefix, ()),
    (cases_reading.list_takes_prefixes_literally, ()),
    (cases_reading.list_goes_on_after, ()),
    (cases_reading.list_is_paged, ()),
    (cases_reading.list_is_never_cut_short, ()),
    (cases_writing.check_of_an_absent_key, _CONDITIONAL),
    (cases_writing.check_of_a_version, _CONDITIONAL),
    (cases_writing.same_bytes_are_a_new_version, _CONDITIONAL),
    (cases_writing.every_check_counts, _CONDITIONAL),
    (cases_writing.checks_of_other_keys, _CONDITIONAL),
    (cases_writing.a_recreated_key_is_another, _CONDITIONAL),
    (cases_writing.puts_overwrite_and_deletes_remove, ()),
    (cases_writing.delete_put_and_check_together, _CONDITIONAL),
    (cases_writing.a_batch_that_only_checks, _CONDITIONAL),
    (cases_writing.many_keys_in_one_batch, ()),
    (cases_writing.checks_are_refused_where_they_cannot_hold, ()),
    (cases_writing.a_commit_without_a_wait, ("synchronous", "checks")),
    (cases_writing.one_winner_of_a_race, _RACES),
    (cases_writing.no_update_is_lost, _RACES),
    (cases_writing.handles_share_a_store, _RACES),
    (cases_writing.a_closed_store_keeps_its_data, ()),
    (cases_platform.keys_have_a_form, ()),
    (cases_platform.keys_have_a_length, ()),
    (cases_platform.values_have_a_size, ()),
    (cases_platform.batches_have_a_size, ()),
    (cases_platform.a_key_once_per_batch, ()),
    (cases_platform.closed_is_closed, ()),
    (cases_platform.the_clock_is_sane, ()),
    (cases_platform.entropy_is_fresh, ()),
    (cases_platform.sleep_returns, ()),
    (cases_platform.sleep_can_be_cancelled, ()),
    (cases_platform.capabilities_are_well_formed, ()),
    (cases_platform.threads_run_functions, ()),
    (cases_platform.owners_are_known, ()),
)

CASES: tuple[Case, ...] = tuple(
    Case(run.__name__, " ".join((run.__doc__ or "").split()), run, needs) for run, needs in _ALL
)
"""Every case, in the order in which a host's author would want to see them fail."""


async def check_case(case: Case, maker: Maker, *, gather: Gather | None = None) -> Result:
    """Run one case. Raises AssertionError with what to fix; otherwise the result is passed or skipped.

    ``gather`` runs awaitables at once (``asyncio.gather``); without it the races are run one after the other.
    """
    if not __debug__:
        raise RuntimeError("the conformance suite is made of assertions: run it without -O and PYTHONOPTIMIZE")
    stage = Stage(maker, gather)
    try:
        result = await _verdict(case, stage)
    except BaseException:
        with suppress(Exception):  # what the case found says more than what a broken host does when it is closed
            await stage.clear()
        raise
    try:
        await stage.clear()
    except Exception as error:
        raise AssertionError(
            f"{case.name}: closing its handles (twice is allowed) or destroying the store raised {_named(error)}"
        ) from error
    return result


async def _verdict(case: Case, stage: Stage) -> Result:
    try:
        if case.needs:
            can = (await stage.host()).capabilities
            missing = [need for need in case.needs if not getattr(can, need)]
            if missing:
                return Result(case.name, "skipped", f"{can.name} says {' and '.join(missing)}=False")
        await case.run(stage)
    except Skipped as skipped:
        return Result(case.name, "skipped", str(skipped))
    except AssertionError as error:
        raise AssertionError(f"{case.name}: {error}") from error
    except Exception as error:
        raise AssertionError(f"{case.name}: the host raised {_named(error)}; expected: {case.behaviour}") from error
    return Result(case.name, "passed")


def _named(error: Exception) -> str:
    code = f" {error.code}" if isinstance(error, AlkalineError) else ""
    return f"{type(error).__name__}{code}: {error}"


async def run_conformance(
    maker: Maker,
    *,
    only: str | Collection[str] | None = None,
    skip_reasons: Mapping[str, str] | None = None,
    gather: Gather | None = None,
) -> list[Result]:
    """Run the suite, or the cases named in ``only``, and say what became of each case.

    ``maker`` makes a new, empty store; ``gather`` as ``check_case`` takes it. ``skip_reasons`` leaves cases out, by
    name, with the reason that is shown for it. An unknown name is a ValueError.
    """
    only = (only,) if isinstance(only, str) else only
    reasons = dict(skip_reasons or {})
    unknown = ({*reasons, *(only or ())}) - {case.name for case in CASES}
    if unknown:
        raise ValueError(f"there is no case {sorted(unknown)}; the cases are {[case.name for case in CASES]}")
    results: list[Result] = []
    for case in CASES:
        if only is not None and case.name not in only:
            continue
        if case.name in reasons:
            results.append(Result(case.name, "skipped", reasons[case.name]))
            continue
        try:
            results.append(await check_case(case, maker, gather=gather))
        except AssertionError as error:
            results.append(Result(case.name, "failed", str(error).removeprefix(f"{case.name}: ")))
    return results


def format_results(results: Sequence[Result]) -> str:
    """A line per case, then the counts."""
    lines = [f"{result.outcome:8}{result.case}  {result.message}".rstrip() for result in results]
    count = {
        outcome: sum(result.outcome == outcome for result in results) for outcome in ("passed", "failed", "skipped")
    }
    return "\n".join([*lines, ", ".join(f"{n} {outcome}" for outcome, n in count.items())])
