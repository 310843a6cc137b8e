"""The API as an OpenAPI 3.1 document, made of the table of verbs: what is not in that is not in this. Pure: no I/O."""

from __future__ import annotations

import inspect
import re
from typing import Any

from alkaline_edge import __version__
from alkaline_edge.limits import MAX_ATTRIBUTES, MAX_MESSAGE, MAX_SECONDS, MAX_TOKENS, MAX_USD
from alkaline_edge.runs import STATUSES

from . import forms
from .messages import JSON
from .parameters import ID, NAME
from .routes import ALL, VERBS, Verb
from .runs import PUBLIC
from .verbs import MoveVerbs, RunVerbs

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_MAYBE_TEXT: Schema = {"type": ["string", "null"]}
_WHOLE: Schema = {"type": "integer"}
_TIME: Schema = {"type": "integer", "description": "ms since 1970"}
_COUNTS: Schema = {"type": "object", "properties": {"tokens": _WHOLE, "usd": {"type": "number"}}}
_OF_A_RECORD: dict[str, Schema] = {
    "id": _TEXT,
    "workflow": _TEXT,
    "version": _WHOLE,
    "status": {"enum": list(STATUSES)},
    "attempt": _WHOLE,
    "spent": _COUNTS,
    "cursor_length": {**_WHOLE, "description": "commits of the present history"},
    "waiting": {"type": "array", "items": _TEXT},
    "wake_at": {"type": ["integer", "null"], "description": "ms since 1970"},
    "parent": _MAYBE_TEXT,
    "depth": _WHOLE,
    "attributes": {"type": "object"},
    "created_at": _TIME,
    "updated_at": _TIME,
    "result": {},
    "failure": {"type": ["object", "null"]},
    "generation": _WHOLE,
    "moved_to": _MAYBE_TEXT,
}
_STUCK: Schema = {
    "type": ["object", "null"],
    "properties": {"code": _MAYBE_TEXT, "message": _TEXT},
    "description": "what keeps the run from going on in the process that answers",
}
_EVENT: Schema = {
    "type": "object",
    "required": ["n", "commit", "at", "kind"],
    "properties": {"n": _WHOLE, "commit": _WHOLE, "at": _TIME, "kind": _TEXT},
}
_ID: Schema = {"type": "string", **ID}
_NAME: Schema = {"type": "string", **NAME}
_START: Schema = {
    "type": "object",
    "required": ["workflow"],
    "additionalProperties": False,
    "properties": {
        "workflow": _ID,
        "input": {},
        "id": {**_ID, "type": ["string", "null"]},
        "on_conflict": {"enum": ["reject", "join"]},
        "attributes": {
            "type": ["object", "null"],
            "propertyNames": _ID,
            "maxProperties": MAX_ATTRIBUTES,
            "additionalProperties": {
                "anyOf": [
                    {"type": "string", "maxLength": MAX_MESSAGE},
                    {"type": "number", "minimum": -1e300, "maximum": 1e300},
                    {"type": "boolean"},
                ]
            },
        },
        "start_at": {"type": ["string", "null"], "format": "date-time"},
        "budget": {
            "type": ["object", "null"],
            "minProperties": 1,
            "additionalProperties": False,
            "properties": {
                "tokens": {"type": "integer", "minimum": 0, "maximum": MAX_TOKENS},
                "usd": {"type": "number", "minimum": 0, "maximum": MAX_USD},
                "seconds": {"type": "number", "minimum": 0.001, "maximum": MAX_SECONDS},
                "on_exceeded": {"enum": ["fail", "pause"]},
                "warn": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            },
        },
    },
}
_AMOUNTS: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "properties": {
        "tokens": {"type": "integer", "minimum": 0, "maximum": MAX_TOKENS},
        "usd": {"type": "number", "minimum": 0, "maximum": MAX_USD},
        "seconds": {"type": "number", "minimum": 0, "maximum": MAX_SECONDS},
    },
}
_BODIES: dict[str, Schema] = {"start": _START, "fork": {"type": ["object", "null"]}, "top_up": _AMOUNTS}
_ANSWERS: dict[str, Schema] = {
    "runs": {"$ref": "#/components/schemas/Page"},
    "events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
    "delete": {"type": "null"},
    "purge": {"$ref": "#/components/schemas/Purged"},
    **{name: {"$ref": f"#/components/schemas/{name.title()}"} for name in ("schedules", "boards", "tasks")},
    **{name: {"$ref": "#/components/schemas/Run"} for name in ("start", "status", "fork")},
}
_SCHEMAS: dict[str, Schema] = {
    "Run": {
        "type": "object",
        "required": [*PUBLIC, "stuck"],
        "properties": {**{name: _OF_A_RECORD[name] for name in PUBLIC}, "stuck": _STUCK},
    },
    "Page": {
        "type": "object",
        "required": ["runs", "after"],
        "properties": {
            "runs": {"type": "array", "items": {"$ref": "#/components/schemas/Run"}},
            "after": _MAYBE_TEXT,
            "unreadable": {"type": "array", "items": _TEXT},
        },
    },
    "Purged": {
        "type": "object",
        "required": ["runs", "kept", "after"],
        "properties": {
            "runs": {"type": "array", "items": _TEXT},
            "kept": {"type": "object", "additionalProperties": _TEXT},
            "after": _MAYBE_TEXT,
        },
    },
    **{
        whole: {
            "type": "object",
            "required": [name, "after"],
            "properties": {
                name: {"type": "array", "items": {"type": "object", "required": [key], "properties": {key: _TEXT}}},
                "after": _MAYBE_TEXT,
            },
        }
        for whole, name, key in (
            ("Schedules", "schedules", "id"),
            ("Boards", "boards", "name"),
            ("Tasks", "tasks", "id"),
        )
    },
    "Event": _EVENT,
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": {"code": _MAYBE_TEXT, "message": _TEXT, "detail": {"type": "object"}},
            }
        },
    },
}
_BOARD: Schema = {"type": "string", "pattern": r"^[^:/]{1,60}$"}
_OF_A_PATH = {
    "id": ("the run's id", _ID),
    "board": ("the board's name", _BOARD),
    "name": ("what the handler calls it", _NAME),
}


def document(prefix: str, secured: bool) -> dict[str, Any]:
    """The document of a server whose paths stand behind ``prefix``. ``secured``: it asks for a token or a signature."""
    paths: dict[str, dict[str, Any]] = {}
    for verb in VERBS:
        paths.setdefault(verb.path, {})[verb.method.lower()] = _operation(verb)
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "alkaline_edge",
            "version": __version__,
            "description": "Durable runs over HTTP. Ids and names that are . or .. have a ! before them in a path.",
        },
        "servers": [{"url": prefix or "/"}],
        "paths": paths,
        "components": {"schemas": _SCHEMAS},
    }
    if secured:
        found["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"bearer": []}]
    return found


def _operation(verb: Verb) -> dict[str, Any]:
    kind: Any = MoveVerbs if verb.path.startswith("/moves") else RunVerbs
    summary, _, rest = str(getattr(kind, verb.name).__doc__).partition("\n")
    found: dict[str, Any] = {
        "operationId": "_".join([verb.name.strip("_"), *(name for name, on in verb.fixed.items() if on)]),
        "tags": [verb.parts[0]],
        "summary": summary.replace("``", "`"),
        "parameters": [*_in_path(verb), *_in_query(verb)],
        "responses": _responses(verb),
    }
    if rest.strip():
        found["description"] = re.sub(r"\s+", " ", rest).strip().replace("``", "`")
    if verb.body:
        content: Schema = {"schema": _BODIES.get(verb.name, {})} if verb.takes.media == JSON else {}
        needed = verb.body == ALL or _is_needed(getattr(kind, verb.name), verb.body)
        found["requestBody"] = {"required": needed, "content": {verb.takes.media: content}}
    return found


def _is_needed(method: Any, name: str) -> bool:
    parameter = inspect.signature(method).parameters[name]
    return parameter.default is parameter.empty


def _in_path(verb: Verb) -> list[dict[str, Any]]:
    names = re.findall(r"{(\w+)}", verb.path)
    return [
        {"name": name, "in": "path", "required": True, "description": words, "schema": schema}
        for name, (words, schema) in ((name, _OF_A_PATH[name]) for name in names)
    ]


def _in_query(verb: Verb) -> list[dict[str, Any]]:
    return [
        {
            "name": each.wire,
            "in": "query",
            "required": each.needed,
            "schema": {"type": "array", "items": dict(each.schema)} if each.many else dict(each.schema),
        }
        for each in verb.query.values()
    ]


def _responses(verb: Verb) -> dict[str, Any]:
    answer: Schema = {}
    if verb.status == 202:
        answer = {"schema": {"$ref": "#/components/schemas/Run"}}
    elif verb.gives.media == JSON:
        answer = {"schema": _ANSWERS.get(verb.name, {})}
    elif verb.gives is forms.EVENTS:
        answer = {"schema": _TEXT}
    found: dict[str, Any] = {
        str(verb.status): {
            "description": "recorded" if verb.status == 202 else "done",
            "content": {verb.gives.media: answer},
        },
        "default": {
            "description": "refused, or not known to be done",
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
        },
    }
    if verb.gives is forms.EVENTS:
        found["204"] = {"description": "nothing follows"}
    return found
