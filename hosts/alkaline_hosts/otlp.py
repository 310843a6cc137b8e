"""``OtlpExporter``: traces of runs to a collector, by OTLP over HTTP as JSON: in a Worker, in a page, and on a server.

    exporter = OtlpExporter("https://collector.example/v1/traces", headers={"authorization": f"Bearer {token}"})
    async with Runtime(host, workflows=[research], on_event=exporter) as runtime:
        ...

It needs no SDK: httpx on a server, the platform's ``fetch`` elsewhere. Where there is an SDK, ``alkaline_hosts.otel``.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Mapping
from urllib.parse import urlsplit

from alkaline_edge import StepInfo, lifecycle
from alkaline_edge.arguments import expect, expect_call
from alkaline_edge.errors import InvalidInput, StoreError
from alkaline_edge.limits import check_seconds

from ._http.around import take
from ._http.fetching import Fetch as Fetch  # for callers, who give their own
from ._http.fetching import default
from ._telemetry.live import Live
from ._telemetry.spans import Span
from ._telemetry.writing import otlp

__all__ = ["OtlpExporter"]

_log = logging.getLogger("alkaline_edge")
_AT_ONCE = 512
"""Spans of one request, and so many are sent before a run has come to rest."""
_MOST = 8_192
"""Spans that wait for a collector that does not answer: the oldest are dropped beyond."""
_AGAIN = (408, 429)
"""Answers that say to come back later."""
_PATIENCE_MS = 5_000
"""A collector that did not answer is not asked again before so much time has passed: asking costs what it carries."""
_AT_REST = (
    lifecycle.RunSuspended, lifecycle.RunPaused, lifecycle.RunCompleted, lifecycle.RunFailed, lifecycle.RunWasCancelled,
    lifecycle.RunContinuedAsNew,
)  # fmt: skip


class OtlpExporter:
    """A listener for ``Runtime(on_event=)`` that posts spans to ``url``, the collector's ``/v1/traces``.

    They go out when a run has come to rest, and the runtime awaits that before it is closed. ``headers``: of each
    request, such as a token. ``service``: the name of the service. ``fetch``: what sends, if None httpx or the
    platform's own. ``timeout``: seconds for an answer. A collector that does not answer is logged, harms no run, and is
    asked again with the next spans. What is no http(s) URL is ERR_INVALID_INPUT.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        service: str = "alkaline_edge",
        fetch: Fetch | None = None,
        timeout: float = 10.0,
    ) -> None:
        expect(url, str, "OtlpExporter(url=)", "an http(s) URL")
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInput("OtlpExporter(url=) is the http(s) URL of a collector's /v1/traces")
        if parts.username or parts.password:
            raise InvalidInput("a URL is shown and logged: give the secret in headers=")
        expect(headers, (Mapping, type(None)), "OtlpExporter(headers=)", "a map of texts")
        expect(service, str, "OtlpExporter(service=)", "a name")
        expect_call(fetch, "OtlpExporter(fetch=)", "a function as Fetch says")
        seconds = check_seconds(timeout, "OtlpExporter(timeout=)", 0.001)
        self._url, self._service = url, service
        self._headers = {"content-type": "application/json", **(headers or {})}
        self._fetch = fetch or default(seconds)
        self._live = Live()
        self._waiting: list[Span] = []
        self._lock: asyncio.Lock | None = None
        self._silent = False
        self._not_before = 0

    def __call__(self, event: lifecycle.LifecycleEvent) -> Awaitable[None] | None:
        """Take one event; what is to be awaited sends what has gathered."""
        around = take() if isinstance(event, lifecycle.RunStarted) else None
        self._waiting += self._live.told(event, around)
        if len(self._waiting) > _MOST:
            del self._waiting[: len(self._waiting) - _MOST]
        if not self._waiting or event.at < self._not_before:
            return None
        if len(self._waiting) < _AT_ONCE and not isinstance(event, _AT_REST):
            return None
        self._not_before = event.at + _PATIENCE_MS  # unless it goes well
        return self._sent()

    def traceparent(self, info: StepInfo) -> str | None:
        """What names the span of a step, for a request that the step makes; None of a run that it was not told of.

        ``info``: what the step was given. ``durable_tool(..., meta=exporter.meta)`` sends it to an MCP server.
        """
        return self._live.traceparent(info.run_id, info.command_id)

    def meta(self, info: StepInfo) -> dict[str, str]:
        """``{"traceparent": ...}`` of the step, or nothing: for ``durable_tool(..., meta=)``. ``info`` as above."""
        found = self.traceparent(info)
        return {} if found is None else {"traceparent": found}

    async def flush(self) -> None:
        """Send what has gathered. ERR_STORE where the collector does not take it: it is kept for the next time."""
        self._lock = self._lock or asyncio.Lock()
        async with self._lock:
            while self._waiting:
                part, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                body = json.dumps(otlp(part, self._service)).encode()
                try:
                    status, _ = await self._fetch("POST", self._url, self._headers, body)
                except Exception as error:
                    self._waiting[:0] = part
                    raise StoreError(f"the collector was not reached ({type(error).__name__})") from error
                if not 200 <= status < 300:
                    if status >= 500 or status in _AGAIN:  # others will never take these
                        self._waiting[:0] = part
                    raise StoreError(f"the collector answered {status}; look at its URL and at the headers")

    async def _sent(self) -> None:
        try:
            await self.flush()
        except StoreError as error:
            if not self._silent:  # once for each time that it begins
                _log.warning("traces are not exported: %s", error)
            self._silent = True
        else:
            self._silent, self._not_before = False, 0

    async def close(self) -> None:
        """Send what has gathered, if that can be done, and let go of connections."""
        await self._sent()
        close = getattr(self._fetch, "close", None)
        if close is not None:
            await close()
