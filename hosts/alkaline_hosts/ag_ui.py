"""``ag_ui_app``: a workflow as an agent of the AG-UI protocol (1.0), for pages that speak it, such as CopilotKit's.

    app = ag_ui_app(Runtime(host, workflows=[assistant]), "assistant", token=os.environ["ALKALINE_TOKEN"])

A request is a run, and the workflow's input is the RunAgentInput, a dict. It needs no package but this one.
docs/mcp.md has the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alkaline_edge import Runtime
from alkaline_edge.arguments import expect

from ._agui.agent import AgentApi
from ._http.application import App, application, who_may_ask
from ._http.messages import MAX_BODY

__all__ = ["ag_ui_app"]


def ag_ui_app(
    runtime: Runtime,
    workflow: str,
    *,
    token: str | Iterable[str] = (),
    keys: Mapping[str, str | bytes] | None = None,
    origins: Iterable[str] = (),
    max_body: int = MAX_BODY,
    serve: bool = True,
    open_to_all: bool = False,
    hosts: Iterable[str] = (),
) -> App:
    """An ASGI application that is an AG-UI agent, at whatever path it is mounted: runs of ``workflow``, by its name.

    Who may ask, ``origins``, ``max_body``, ``serve`` and ``hosts`` are as for ``asgi_app``. ERR_NOT_FOUND: the runtime
    has no such workflow.
    """
    expect(workflow, str, "ag_ui_app(workflow=)", "a workflow's name")
    access = who_may_ask("ag_ui_app", runtime, token, keys, max_body, serve, open_to_all)
    return application(runtime, AgentApi(runtime, workflow, access, origins, max_body, hosts), serve)
