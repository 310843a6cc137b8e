"""Workflows as an author of Cloudflare's writes them: run by Cloudflare's engine in workerd, and by this kernel."""

import asyncio
from datetime import UTC, datetime, timedelta

from workers import WorkflowEntrypoint
from workers.workflows import NonRetryableError

SOON = {"retries": {"limit": 2, "delay": 10, "backoff": "constant"}, "timeout": "20 seconds"}


class Order(WorkflowEntrypoint):
    """Steps that depend on one another, a sleep, an approval, and steps that fail."""

    async def run(self, event, step):
        """What it did, in one list."""
        did = []

        @step.do()
        async def price():
            did.append("price")
            return {"amount": event["payload"]["amount"] * 2, "tags": ["a", {"deep": None}]}

        @step.do()
        async def stock():
            did.append("stock")
            return 7

        @step.do(concurrent=True)
        async def reserve(price, stock, ctx):
            did.append("reserve")
            return [
                price["amount"],
                price.tags[1].deep,
                stock,
                ctx["attempt"],
                ctx["step"]["name"],
                ctx["step"]["count"],
            ]

        @step.do()
        async def soon():
            return datetime.now(UTC).replace(tzinfo=None) + timedelta(milliseconds=event["payload"].get("ms", 100))

        @step.do("send the bill")
        def bill(reserve):
            did.append("bill")
            return f"bill of {reserve[0]}"

        @step.do(config=SOON)
        async def flaky(ctx):
            did.append(f"flaky {ctx['attempt']}")
            if ctx["attempt"] < 3:
                raise ValueError("not yet")
            return ctx["attempt"]

        @step.do(config=SOON)
        async def hopeless():
            did.append("hopeless")
            raise NonRetryableError("no such card")

        @step.do("never", config={"retries": {"limit": 1, "delay": "10", "backoff": "linear"}})
        async def never():
            did.append("never")
            raise ValueError("down")

        @step.do()
        async def lost(nobody):
            return nobody

        billed = await bill()
        again = await stock()
        await step.sleep("a breath", "20")
        await step.sleep_until("a second breath", await soon())
        refused = []
        try:
            await hopeless()
        except NonRetryableError as error:
            refused.append(["NonRetryableError", "no such card" in str(error)])
        for failing in (never, lost):
            try:
                await failing()
            except Exception as error:
                refused.append([failing._step_name, isinstance(error, TypeError)])
        both = await asyncio.gather(flaky(), stock())
        decided = await step.wait_for_event("a decision", "decision", timeout="1 hour")
        try:
            await step.wait_for_event("no word", "word", timeout=30)
        except Exception:
            refused.append("no word")
        return {
            "id": event["instanceId"],
            "billed": billed,
            "reserved": await reserve(),
            "again": again,
            "both": both,
            "decided": [decided.payload["by"], decided["type"]],
            "refused": refused,
            "did": sorted(did) if event["payload"].get("list") else None,
        }


class Attempts(WorkflowEntrypoint):
    """How often a step runs: what it did goes into a list outside of any step, as long as nothing restarts."""

    async def run(self, event, step):
        """The number of attempts of each, and what they raised."""
        did = []
        for name, config in event["payload"]["configs"].items():

            @step.do(name, config=config)
            async def attempt():
                did.append(name)  # noqa: B023 - awaited before the next turn
                raise NonRetryableError("stop") if name == "told" else RuntimeError("down")  # noqa: B023

            try:
                await attempt()
            except Exception as error:
                did.append(f"{name} raised {isinstance(error, NonRetryableError)}")
        return did
