"""What ``alkaline serve`` gives to whoever watches it: the form of its log, metrics, and traces to a collector."""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import click

from alkaline_edge import InvalidInput, Runtime, lifecycle

from .._http.probes import Probes
from . import serving_log

HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
"""The variable that OpenTelemetry's exporters read: NAME=VALUE,NAME=VALUE, percent-encoded."""


def with_watching(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options below, as one ``watching``."""

    @click.option("--log-format", "form", default="human", show_default=True, type=click.Choice(serving_log.FORMS),
                  help="Lines for people, or a JSON object an entry.")  # fmt: skip
    @click.option("--metrics", is_flag=True, help="Show metrics at /metrics, to whoever reaches it.")
    @click.option("--otlp", metavar="URL", help=f"Post traces to a collector's /v1/traces, with {HEADERS}.")
    @functools.wraps(command)
    def wrapper(*args: Any, form: str, metrics: bool, otlp: str | None, **kwargs: Any) -> Any:
        return command(*args, watching=Watching(form, metrics, otlp), **kwargs)

    return wrapper


class Watching:
    """Hears a runtime's lifecycle events for the log, for ``metrics`` and for the collector at ``otlp``.

    ERR_INVALID_INPUT for what its libraries are missing for, and for what is no collector's URL.
    """

    def __init__(self, form: str, metrics: bool, otlp: str | None) -> None:
        self.form = form
        self._runtime: Runtime | None = None
        self._counted: Any = None
        self._form_of_metrics = ""
        self._exporter: Any = None
        if metrics:
            try:
                from .._telemetry.prometheus import FORM, Counted
            except ModuleNotFoundError:
                raise InvalidInput(
                    "--metrics needs prometheus_client: pip install 'alkaline-edge[prometheus]'"
                ) from None
            self._counted, self._form_of_metrics = Counted(self._active, self._stuck), FORM
        if otlp is not None:
            from ..otlp import OtlpExporter

            self._exporter = OtlpExporter(otlp, headers=_headers(os.environ.get(HEADERS, "")))

    def _active(self) -> int:
        return 0 if self._runtime is None else len(self._runtime.active())

    def _stuck(self) -> int:
        return 0 if self._runtime is None else len(self._runtime.stuck)

    def __call__(self, event: lifecycle.LifecycleEvent) -> Awaitable[None] | None:
        """Take one event."""
        serving_log.told(event)
        if self._counted is not None:
            self._counted(event)
        if self._exporter is None:
            return None
        sent: Awaitable[None] | None = self._exporter(event)
        return sent

    def probed(self, app: Any, runtime: Runtime) -> Probes:
        """``app`` with probes in front of it."""
        self._runtime = runtime
        metrics = None if self._counted is None else (self._counted.text, self._form_of_metrics)
        return Probes(app, lambda: runtime.host.list("", limit=1), metrics)

    async def close(self) -> None:
        """Send what is left."""
        if self._exporter is not None:
            await self._exporter.close()


def _headers(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, sign, value = part.partition("=")
        if not sign or not name.strip():
            raise InvalidInput(f"{HEADERS} is NAME=VALUE,NAME=VALUE, percent-encoded")
        found[unquote(name.strip())] = unquote(value.strip())
    return found
