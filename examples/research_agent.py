"""A research agent over the Python that runs it, which survives being killed.

    python examples/research_agent.py ask "How does asyncio cancel a task?"
    python examples/research_agent.py status      # beside it, in another terminal
    python examples/research_agent.py approve     # when it waits for you; then `ask` again writes the report

It ranks the standard library's files and pydoc's topics against the question, reads the best sections step by step,
condenses them, waits for a human's approval, and writes a Markdown report. Kill it at any moment and call ``ask``
again: it goes on from the first step that had not finished. With OPENAI_API_KEY or OPENAI_BASE_URL in the environment
a model condenses; without, sentences are quoted from the sources, and the report says so.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import timedelta
from pathlib import Path
from typing import TypedDict

from research import model, ranking, steps
from research.condense import Quote
from research.effects import Conduct
from research.report import compose
from research.sources import TOPIC

from alkaline_edge import AlkalineError, Budget, BudgetExceeded, Context, Retry, Runtime, workflow
from alkaline_edge.events import StepCompleted
from alkaline_hosts.file import FileHost

QUESTION = "How does asyncio cancel a task, and what must a coroutine do to clean up after cancellation?"
SHARDS = 16
PARALLEL = 4
WAITING, REFUSED, MISUSED = 3, 4, 2
"""Exit codes: waits for approval; was not approved; was called in a way that can't be."""


class Task(TypedDict):
    """The input of a run."""

    question: str
    sections: int
    model: str | None
    report: str
    conduct: Conduct


class Outcome(TypedDict):
    """The result of a run. ``report`` is None when it was not approved."""

    report: str | None
    bytes: int
    sections: int
    approved_by: str | None


class Stage(TypedDict):
    """What the query `stage` answers."""

    stage: str
    read: int
    of: int


Planned = list[tuple[str, list[str]]]
"""Documents, best first, with the names of the sections to read in each."""


# --- the workflow --------------------------------------------------------------------------------------------------
@workflow(
    name="research",
    version=1,
    budget=Budget(tokens=250_000),
    retry=Retry(max_attempts=5, backoff=0.1, cap=5, retryable=model.is_transient),
)
async def research(ctx: Context, task: Task) -> Outcome:
    """Find, read, condense, ask, write. All it does to the outside is in steps; the rest only decides."""
    stage = Stage(stage="looking for sources", read=0, of=0)
    ctx.on_query("stage", lambda: dict(stage))  # a copy: what is answered must not change later
    conduct, question = task["conduct"], task["question"]
    ranking_of = await find(ctx, task)
    plan = await choose(ctx, ranking_of, task)
    planned = sum(len(names) for _, names in plan)
    stage["stage"], stage["of"] = "reading", planned
    ctx.emit("plan", {"steps": 1 + SHARDS + 1 + len(ranking_of["best"]) + planned + len(plan) + 2})

    summaries, affordable = await read_all(ctx, task, plan, ranking_of["weight"], stage)
    stage["stage"] = "condensing"
    found = [summary for _, summary in summaries]
    final = await ctx.step(
        "answer", steps.answer, found, question, task["model"] if affordable else None, conduct,
        cost=(lambda said: said["tokens"]) if affordable else None,
    )  # fmt: skip
    stage["stage"] = "waiting for approval"
    ctx.emit("draft", {"quotes": len(final["quotes"]), "documents": len(plan)})
    decision = await ctx.wait_for_signal("approval", timeout=timedelta(days=7), default=None)
    if not decision or not decision["approved"]:
        stage["stage"] = "not approved"
        return Outcome(report=None, bytes=0, sections=stage["read"], approved_by=None)
    stage["stage"] = "writing"
    facts = [] if affordable else [("token budget", "used up, so the reading ended early and no model answered")]
    facts += [
        ("sections read", f"{stage['read']} of {planned}, in {len(plan)} documents"),
        ("approved by", str(decision["by"])),
    ]
    shown = [(document, summary) for document, summary in summaries if summary["quotes"]]
    text = compose(question, final, shown, task["model"], facts)
    size = await ctx.step("write report", steps.write_report, text, task["report"], conduct)
    stage["stage"] = "done"
    return Outcome(report=task["report"], bytes=size, sections=stage["read"], approved_by=decision["by"])


async def find(ctx: Context, task: Task) -> steps.Ranking:
    """The documents that matter: an index in parallel shares, then one ranking."""
    conduct, wanted = task["conduct"], ranking.question_terms(task["question"])
    documents = await ctx.step("survey", steps.survey, conduct)
    shares = [documents[n::SHARDS] for n in range(SHARDS)]
    shards = await ctx.all(
        *(
            ctx.step(f"index {n:02} of {SHARDS}", steps.index, share, wanted, conduct)
            for n, share in enumerate(shares, 1)
        ),
        limit=PARALLEL,
    )
    most = max(6, min(40, task["sections"] // 5))
    found: steps.Ranking = await ctx.step("rank", steps.rank, shards, wanted, most, conduct)
    return found


async def choose(ctx: Context, ranking_of: steps.Ranking, task: Task) -> Planned:
    """Outline the best documents and pick the best sections of all of them."""
    top = ranking_of["best"][0][1] if ranking_of["best"] else 1.0

    async def outlined(entry: tuple[str, float]) -> list[tuple[float, str, str]]:
        document, score = entry
        found = await ctx.step(f"outline {document}", steps.outline, document, ranking_of["weight"], task["conduct"])
        ctx.spend(found["tokens"], label=f"outline {document}")
        return [(-worth * (0.5 + 0.5 * score / top), document, name) for name, worth in found["sections"]]

    outlines = await ctx.map(outlined, ranking_of["best"], limit=PARALLEL)
    best = sorted(section for one in outlines for section in one)[: task["sections"]]
    names: dict[str, list[str]] = {document: [] for document, _ in ranking_of["best"]}
    for _, document, name in best:
        names[document].append(name)
    return [(document, chosen) for document, chosen in names.items() if chosen]


async def read_all(
    ctx: Context, task: Task, plan: Planned, weight: dict[str, float], stage: Stage
) -> tuple[list[tuple[str, steps.Summary]], bool]:
    """Read the files in parallel and then the language reference page by page; False if the budget ended that."""
    conduct = task["conduct"]
    summaries: dict[str, steps.Summary] = {}

    async def read_document(entry: tuple[str, list[str]]) -> None:
        document, names = entry
        quotes: list[Quote] = []
        for name in names:
            reading = await ctx.step(
                f"read {document} {name}", steps.read, document, name, weight, conduct, cost=lambda one: one["tokens"]
            )
            quotes += reading["quotes"]
            stage["read"] += 1
        summaries[document] = await ctx.step(
            f"condense {document}", steps.summarize, document, quotes, task["question"], task["model"], conduct,
            cost=lambda one: one["tokens"],
        )  # fmt: skip
        ctx.emit("progress", {"document": document, "read": stage["read"], "of": stage["of"]})

    affordable = True
    topics = [entry for entry in plan if entry[0].startswith(TOPIC)]
    try:
        await ctx.map(read_document, [entry for entry in plan if entry not in topics], limit=PARALLEL)
        for entry in topics:
            await read_document(entry)
    except BudgetExceeded as error:
        affordable = False
        ctx.log("warning", "the budget is used up: the report will rest on what was read", spent=error.detail["spent"])
    return [(document, summaries[document]) for document, _ in plan if document in summaries], affordable


# --- the program ---------------------------------------------------------------------------------------------------
async def ask(options: argparse.Namespace) -> int:
    """Start the run, or go on with it, until it is done or waits for approval."""
    try:
        ranking.question_terms(options.question or QUESTION)
    except ValueError as error:
        return _complain(str(error))
    chosen = model.in_environment()
    if chosen is not None:
        model.check_client()
    task = Task(
        question=options.question or QUESTION,
        sections=options.sections,
        model=chosen,
        report=options.report,
        conduct=Conduct(pace=options.pace, flaky=options.flaky, seed=options.seed),
    )
    host = FileHost(options.store)
    try:
        async with Runtime(host, workflows=[research]) as runtime:
            run = await runtime.start(research, task, id=options.id, on_conflict="join")
            begun = (await runtime.history(run.id))[0].event.input  # type: ignore[union-attr]  # a history begins so
            if options.question and begun["question"] != options.question:
                return _complain(f"run {options.id!r} answers another question: {begun['question']!r}; choose --id")
            condensing = f"by {begun['model']}" if begun["model"] else "by local extractive summary: no model is called"
            print(f"{begun['question']}\ncondensed {condensing}", flush=True)
            return await _advance(runtime, options)
    finally:
        await host.close()


async def _advance(runtime: Runtime, options: argparse.Namespace) -> int:
    run = await runtime.resume(options.id)
    await run.settle()
    record = await runtime.get_execution(run.id)
    if record.status == "suspended" and options.approve_as:
        await run.signal("approval", {"approved": True, "by": options.approve_as}, dedupe="approval")
    elif record.status == "suspended":
        print("waiting for approval: `approve` sends it, and `ask` again goes on from here")
        return WAITING
    outcome: Outcome = await run.result()
    record = await runtime.get_execution(run.id)
    print(f"{outcome['sections']} sections read, {record.spent['tokens']} tokens spent")
    if outcome["report"] is None:
        print("not approved: no report was written")
        return REFUSED
    print(f"the report is in {outcome['report']}")
    return 0


async def approve(options: argparse.Namespace) -> int:
    """Send the human's decision. It is durable when this returns, whether or not the agent is running."""
    host = FileHost(options.store)
    try:
        async with Runtime(host) as runtime:
            decision = {"approved": not options.reject, "by": options.by}
            await runtime.signal(options.id, "approval", decision, dedupe="approval")
    finally:
        await host.close()
    print("sent; call `ask` to let the agent go on")
    return 0


async def status(options: argparse.Namespace) -> int:
    """Say where the run is. Reads the store beside the agent that writes it, and changes nothing."""
    host = FileHost(options.store, read_only=True)
    try:
        async with Runtime(host, workflows=[research]) as runtime:
            record = await runtime.get_execution(options.id)
            recorded = await runtime.history(options.id)
            where = await runtime.query(options.id, "stage")
    finally:
        await host.close()
    done = sum(isinstance(one.event, StepCompleted) for one in recorded)
    print(f"{record.status}: {where['stage']}, {where['read']} of {where['of']} sections read, {done} steps done")
    return 0


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return MISUSED


def _absolute(path: str) -> str:
    return str(Path(path).resolve())  # the run may go on in a process that was started somewhere else


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A durable research agent over the Python standard library.")
    verbs = parser.add_subparsers(required=True, metavar="ask | approve | status")
    asking = verbs.add_parser("ask", help="start the run, or go on with it")
    asking.add_argument("question", nargs="?", help=f"by default: {QUESTION}")
    asking.add_argument("--report", type=_absolute, default="report.md", help="where the report goes")
    asking.add_argument("--sections", type=int, default=200, help="how many sections to read")
    asking.add_argument("--pace", type=float, default=0.0, help="seconds that every step takes at least")
    asking.add_argument("--flaky", type=float, default=0.05, help="share of attempts that fail on purpose")
    asking.add_argument("--seed", type=int, default=1, help="draws which attempts fail")
    asking.add_argument("--approve-as", metavar="NAME", help="approve the draft at once, in this name")
    asking.set_defaults(run=ask)
    approving = verbs.add_parser("approve", help="approve the draft, or reject it")
    approving.add_argument("--reject", action="store_true", help="no report is written")
    approving.add_argument("--by", default="a reader", help="who decides")
    approving.set_defaults(run=approve)
    looking = verbs.add_parser("status", help="where the run is")
    looking.set_defaults(run=status)
    for verb in (asking, approving, looking):
        verb.add_argument("--store", default="research.alkaline", help="the file that holds the run")
        verb.add_argument("--id", default="research", help="the run's id")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the program; its exit code."""
    options = _arguments().parse_args(arguments)
    try:
        code: int = asyncio.run(options.run(options))
        return code
    except (AlkalineError, model.ClientMissing) as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return _complain("stopped; `ask` goes on from here")


if __name__ == "__main__":
    sys.exit(main())
