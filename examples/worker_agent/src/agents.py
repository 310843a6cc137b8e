"""The workflows. Everything that they do to the world is a step; the rest is plain Python."""

import html
import re
from datetime import timedelta

from effects import index_page, indexed_on, put_page

from alkaline_edge import Budget, Context, Retry, StepInfo, workflow


def compose(topic: str, notes: str) -> dict:
    """Draft a page from notes. Call your model here: the step around it records what it answered."""
    points = [line.strip("-* \t") for line in notes.splitlines() if line.strip("-* \t")]
    return {"title": topic.strip().capitalize(), "points": points[:20], "words": len(notes.split())}


def rendered(draft: dict) -> str:
    """The page of a draft."""
    points = "".join(f"<li>{html.escape(point)}</li>" for point in draft["points"])
    title = html.escape(draft["title"])
    return f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1><ul>{points}</ul>"


async def publish_page(slug: str, content: str, info: StepInfo) -> str:
    """Write the page to KV. The idempotency key marks who wrote it: a repeated attempt writes the same."""
    await put_page(slug, content, info.idempotency_key)
    return f"/pages/{slug}"


@workflow(name="publish", version=1, budget=Budget(tokens=20_000))
async def publish(ctx: Context, request: dict) -> dict:
    """Draft a page, wait up to three days for somebody's decision, and publish it or not."""
    draft = await ctx.step("draft", compose, request["topic"], request.get("notes", ""))
    ctx.spend(draft["words"] * 2, "draft")
    ctx.on_query("draft", lambda: draft)
    decision = await ctx.wait_for_signal(
        "decision", timeout=timedelta(days=3), default={"approved": False, "by": "nobody, in three days"}
    )
    if not decision["approved"]:
        return {"published": None, "by": decision["by"]}
    slug = re.sub(r"[^a-z0-9]+", "-", draft["title"].lower()).strip("-") or "page"
    address = await ctx.step("publish", publish_page, slug, rendered(draft), retry=Retry(max_attempts=5, backoff=1.0))
    await ctx.step("index", index_page, slug, draft["title"], ctx.now().date().isoformat())
    return {"published": address, "by": decision["by"]}


@workflow(name="digest", version=1)
async def digest(ctx: Context, day: str) -> dict:
    """List what was published on ``day``. Runs on D1, started and woken by the cron trigger."""
    titles = await ctx.step("read", indexed_on, day)
    page = rendered({"title": f"published on {day}", "points": titles})
    return {"page": await ctx.step("publish", publish_page, f"digest-{day}", page), "count": len(titles)}
