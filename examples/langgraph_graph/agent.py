"""A graph of LangGraph whose checkpoints are in a host of ours: here a file, in a page IndexedDBHost.

    python examples/langgraph_graph/agent.py begin "the launch"     # drafts, and stops to be asked
    python examples/langgraph_graph/agent.py go-on yes              # in another process

MODEL_URL names a place that speaks the chat-completions protocol; without it a stand-in writes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any, TypedDict

import httpx
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from alkaline_hosts.file import FileHost
from alkaline_hosts.langgraph import HostSaver

STORE = Path(os.environ.get("STORE", "graph.alkaline"))
THREAD: Any = {"configurable": {"thread_id": "letter"}}


class Letter(TypedDict, total=False):
    """What the graph knows."""

    topic: str
    draft: str
    sent: bool


async def draft(letter: Letter) -> Letter:
    """Ask the model."""
    if "MODEL_URL" not in os.environ:
        return {"draft": f"A letter about {letter['topic']}."}
    body = {"model": "any", "messages": [{"role": "user", "content": f"Write about {letter['topic']}."}]}
    async with httpx.AsyncClient(timeout=120) as client:
        answer = await client.post(f"{os.environ['MODEL_URL']}/chat/completions", json=body)
    answer.raise_for_status()
    return {"draft": answer.json()["choices"][0]["message"]["content"]}


async def approve(letter: Letter) -> Letter:
    """Stop until somebody says yes or no."""
    return {"sent": interrupt(f"Send {letter['draft']!r}?") == "yes"}


def graph(saver: HostSaver) -> Any:
    """Two nodes, one behind the other."""
    builder = StateGraph(Letter)
    builder.add_node("draft", draft)
    builder.add_node("approve", approve)
    builder.add_edge(START, "draft")
    builder.add_edge("draft", "approve")
    builder.add_edge("approve", END)
    return builder.compile(checkpointer=saver)


async def main(verb: str, words: str) -> None:
    """One command: begin or go-on."""
    host = FileHost(STORE)
    given = {"topic": words} if verb == "begin" else Command(resume=words)
    found = await graph(HostSaver(host)).ainvoke(given, THREAD)
    asked = found.get("__interrupt__")
    print(asked[0].value if asked else f"sent: {found['sent']}, {found['draft']}")
    await host.close()


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:] or ["begin", "the launch"])))
