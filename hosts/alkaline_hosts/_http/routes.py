"""How the verbs go over HTTP: one entry each in ``VERBS``, which both sides read. Pure: no I/O.

An entry has a method of the same name in ``verbs.RunVerbs`` or ``verbs.MoveVerbs``, which says what it takes and
promises, and one in ``runs.RunsApi`` or ``moves.MovesApi``, which does it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from alkaline_edge.board.states import STATES
from alkaline_edge.errors import InvalidInput, NotFound
from alkaline_edge.limits import MAX_MESSAGE, MAX_SECONDS
from alkaline_edge.runs import FINISHED, STATUSES

from . import forms
from .forms import Form
from .messages import Head, Refused, pick
from .parameters import ARGUMENTS, ATTRIBUTES, ID, NAME, Parameter, flag, number, text

ALL = "*"
"""A body that is an object of all parameters that stand neither in the path nor in the query."""


class Verb(NamedTuple):
    """How a verb goes over HTTP. Its parameters are those in ``path``, in ``query``, ``fixed`` ones and the body's.

    ``body`` names the parameter that the body is, in the form ``takes``; none: no body is taken. The answer has the
    form ``gives``, under ``status``; 202 is the run's record, in answer to what returns nothing: it is recorded, and
    the run takes it when a runtime goes on with it. ``fixed``: the route says what a parameter is.
    """

    name: str
    method: str
    path: str
    query: Mapping[str, Parameter] = {}
    body: str = ""
    takes: Form = forms.ANY
    gives: Form = forms.ANY
    status: int = 200
    fixed: Mapping[str, Any] = {}

    @property
    def parts(self) -> list[str]:
        """The path's segments; those in braces are parameters."""
        return self.path.split("/")[1:]

    def target(self, given: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
        """The path and the query that ask for it with ``given``; ERR_INVALID_INPUT for what is no part of a path."""
        path = "".join(f"/{_segment(part[1:-1], given) if part[0] == '{' else part}" for part in self.parts)
        query = [
            (each.wire, one)
            for name, each in self.query.items()
            if given.get(name) is not None
            for one in each.write(given[name])
        ]
        return path, query

    def asked(self, head: Head) -> dict[str, Any]:
        """What the query of a request gives; Refused (400) by name for what it does not take, or lacks."""
        many = next((each.wire for each in self.query.values() if each.many), None)
        found = head.query(*(each.wire for each in self.query.values() if not each.many), many=many)
        given: dict[str, Any] = {}
        for name, each in self.query.items():
            texts = found[each.wire] if each.many else [found[each.wire]] if each.wire in found else []
            if texts:
                given[name] = each.read(each.wire, texts)
            elif each.needed:
                raise Refused(400, f"{self.method} {self.path} wants {each.wire} in the query")
        return given

    def received(self, body: bytes) -> dict[str, Any]:
        """What the body of a request gives; ERR_INVALID_INPUT where it is none that is taken."""
        if not self.body:
            if self.method == "POST" and body.strip() not in (b"", b"null", b"{}", b"\xc0"):
                hint = "; say why in ?reason=" if "reason" in self.query else ""
                raise InvalidInput(f"{self.name.replace('_', '-')} takes no body{hint}")
            return {}
        nothing = self.takes.how == "json" and not body.strip()
        value = None if nothing else self.takes.read(body)
        return {self.body: value} if self.body != ALL else _of_object(value)


_DOTS = re.compile(r"!*\.{1,2}")
"""What has a ``!`` more in a path than it is: every client takes dots alone for a way up, percent-encoded ones too."""


def _segment(name: str, given: Mapping[str, Any]) -> str:
    """A parameter as a part of a path. InvalidInput for what no path can have."""
    value = given[name]
    if not isinstance(value, str):
        raise InvalidInput(f"an id or a name is a text, not {type(value).__name__}")
    if not value:
        raise InvalidInput("an empty id or name can't be asked for over HTTP: no path leads there")
    try:
        return quote(f"!{value}" if _DOTS.fullmatch(value) else value, safe="!")
    except UnicodeError:
        raise InvalidInput("an id or a name holds a lone surrogate, which is not text") from None


PLACE = r"^(\d{1,10}\.\d{1,15})?$"
"""The place of an event in a history, or none."""
START = ("workflow", "input", "id", "on_conflict", "attributes", "start_at", "budget")
"""What a run is started with, but for ``settle``."""


def _of_object(value: Any) -> dict[str, Any]:
    """The parameters in the body that starts a run."""
    if not isinstance(value, dict) or not isinstance(value.get("workflow"), str):
        raise InvalidInput('expected a JSON object with the name of a workflow: {"workflow": "research"}')
    unknown = sorted(value.keys() - set(START))
    if unknown:
        raise InvalidInput(f"a run is started with {', '.join(START)}, not with {', '.join(unknown)[:200]}")
    return value


VERBS = (
    Verb("runs", "GET", "/runs", {
        "status": text("status", enum=list(STATUSES)), "workflow": text("workflow", **ID), "after": text("after"),
        "limit": number("limit", least=1, most=1_000),
        "attributes": ATTRIBUTES,
    }, gives=forms.PAGE),
    Verb("start", "POST", "/runs", {"settle": flag("settle")}, ALL, forms.ANY, forms.RECORD, 201),
    Verb("purge", "DELETE", "/runs", {
        "older_than": number("older_than", True, most=round(MAX_SECONDS)),
        "status": text("status", enum=sorted(FINISHED)), "workflow": text("workflow", **ID),
        "dry_run": flag("dry_run"), "after": text("after"),
        "limit": number("limit", least=1, most=1_000),
    }, gives=forms.PAGE),
    Verb("status", "GET", "/runs/{id}", gives=forms.RECORD),
    Verb("delete", "DELETE", "/runs/{id}", gives=forms.NULL),
    Verb("events", "GET", "/runs/{id}/events", {"after": number("after")}, gives=forms.ARRAY),
    Verb("stream", "GET", "/runs/{id}/stream", {"after": text("after", pattern=PLACE)}, gives=forms.EVENTS),
    Verb("signal", "POST", "/runs/{id}/signals/{name}", {"dedupe": text("dedupe", **NAME)}, "payload",
         gives=forms.RECORD, status=202),
    Verb("top_up", "POST", "/runs/{id}/top-up", {"key": text("key", **NAME)}, "amounts",
         gives=forms.RECORD, status=202),
    Verb("query", "GET", "/runs/{id}/queries/{name}", {"args": ARGUMENTS}),
    Verb("update", "POST", "/runs/{id}/updates/{name}", {}, "payload"),
    Verb("cancel", "POST", "/runs/{id}/cancel", {"reason": text("reason", maxLength=MAX_MESSAGE)},
         gives=forms.RECORD, status=202),
    Verb("pause", "POST", "/runs/{id}/pause", gives=forms.RECORD, status=202),
    Verb("resume", "POST", "/runs/{id}/resume", gives=forms.RECORD, status=202),
    Verb("retry", "POST", "/runs/{id}/retry", gives=forms.RECORD, status=202),
    Verb("fork", "POST", "/runs/{id}/fork", {"at": number("at", True)}, "edit", gives=forms.RECORD, status=201),
    Verb("health", "GET", "/health"),
    Verb("schedules", "GET", "/schedules", {"after": text("after"), "limit": number("limit", least=1, most=1_000)},
         gives=forms.SCHEDULES),
    Verb("boards", "GET", "/boards", {"after": text("after"), "limit": number("limit", least=1, most=1_000)},
         gives=forms.BOARDS),
    Verb("tasks", "GET", "/boards/{board}/tasks", {
        "state": text("state", enum=list(STATES)), "assignee": text("assignee", **NAME), "after": text("after"),
        "limit": number("limit", least=1, most=1_000),
    }, gives=forms.TASKS),
    Verb("bundle", "GET", "/runs/{id}/bundle", gives=forms.BUNDLE),
    Verb("identity", "GET", "/moves", gives=forms.NAME),
    Verb("accept", "POST", "/moves/accept", {}, "part", forms.PART, forms.PLACE),
    Verb("take_over", "POST", "/moves/take-over", {}, "letter", forms.PART, forms.PLACE),
    Verb("renounce", "POST", "/moves/renounce", {"to": text("to", True)}, "letter", forms.PART, forms.LETTER),
    Verb("import_", "POST", "/moves/import", {"mode": text("mode")}, "bundle", forms.BUNDLE, forms.NAME),
    Verb("place", "GET", "/moves/{id}", gives=forms.PLACE_OR_NONE),
    Verb("export", "GET", "/moves/{id}/bundle", gives=forms.BUNDLE, fixed={"handoff": False}),
    Verb("export", "POST", "/moves/{id}/bundle", gives=forms.BUNDLE, fixed={"handoff": True}),
    Verb("digests", "GET", "/moves/{id}/digests", {"generation": number("generation", True)}, gives=forms.DIGESTS),
    Verb("part", "POST", "/moves/{id}/part", {}, "at", forms.PLACE_OR_NONE, forms.PART),
    Verb("freeze", "POST", "/moves/{id}/freeze", {"name": text("name", True), "store": text("store", True)},
         gives=forms.LETTER),
    Verb("reclaim", "POST", "/moves/{id}/reclaim", {"lost": text("lost", True)}, gives=forms.PLACE),
    Verb("confirm", "POST", "/moves/{id}/confirm", {"store": text("store", True)}, gives=forms.NIL),
)  # fmt: skip
"""Every verb. Where two paths could be meant, the earlier one is: ``/moves/accept`` is no run's id."""
AREAS = ("runs", "moves", "health", "schedules", "boards")
METHODS = ("GET", "HEAD", *sorted({verb.method for verb in VERBS} - {"GET"}))


DOCUMENT = "openapi.json"
"""The name of what ``openapi.document`` makes of VERBS; it stands beside ``/runs``."""


def is_document(head: Head) -> bool:
    """Whether a request asks for the OpenAPI document."""
    segments = head.segments
    return segments[-1:] == [DOCUMENT] and not any(part in AREAS for part in segments)


def route(head: Head) -> tuple[Verb, dict[str, Any]]:
    """The verb that a request asks for, and what its path gives. NotFound, or Refused with 405.

    What stands before ``/runs`` or ``/moves`` in the path is where a server was mounted.
    """
    segments = head.segments
    area = next((part for part in segments if part in AREAS), None)
    if area is None:
        raise NotFound("there is nothing here; runs are under /runs")
    segments = segments[segments.index(area) :]
    if "//" in head.path.strip("/"):  # what a name that was forgotten leaves: the rest would move up
        raise NotFound(f"there is no {head.path[:200]}: a name in it is empty")
    for path, verbs in _BY_PATH.items():
        given = _matched(path, segments)
        if given is not None:
            verb: Verb = pick(verbs, head.method, head)
            return verb, {**given, **verb.fixed}
    raise NotFound(f"there is no {head.path[:200]}; runs are under /runs, see docs/http.md")


def verb_of(name: str, given: Mapping[str, Any]) -> Verb:
    """The entry that asks for ``name`` with what is ``given``."""
    found = [verb for verb in VERBS if verb.name == name]
    for verb in found:
        if all(given[parameter] is fixed for parameter, fixed in verb.fixed.items()):
            return verb
    raise InvalidInput(f"{', '.join(found[0].fixed)} is True or False")


def _by_path() -> Iterator[tuple[tuple[str, ...], dict[str, Verb]]]:
    for verb in VERBS:
        yield tuple(verb.parts), {each.method: each for each in VERBS if each.path == verb.path}


_BY_PATH = dict(_by_path())


def _matched(path: tuple[str, ...], segments: list[str]) -> dict[str, Any] | None:
    """The parameters in ``segments``; None where they are not of this path."""
    if len(path) != len(segments):
        return None
    given = {}
    for part, segment in zip(path, segments, strict=True):
        if part[0] == "{":
            given[part[1:-1]] = segment[1:] if segment[0] == "!" and _DOTS.fullmatch(segment) else segment
        elif part != segment:
            return None
    return given
