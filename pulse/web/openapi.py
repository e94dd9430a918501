"""The description of the API (OpenAPI 3.1), made from the routes and their structs."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec

from pulse.core.access import Level
from pulse.web.responses import Problem
from pulse.web.routes import DOCUMENT_PATH, ROUTES
from pulse.wsgi.dispatcher import version

if TYPE_CHECKING:
    from pulse.web.routes import Route

_REF = "#/components/schemas/{name}"
_PROBLEMS = {
    "400": "A parameter, a member or the body is wrong.",
    "401": "The credentials are missing or not known.",
    "403": "The sender has not the right, or the request comes from another site.",
    "404": "There is no such task or run.",
    "409": "The store refuses the action, as overlap does with a second run.",
    "411": "The body has no length, and the server does not show where it ends.",
    "413": "The body is too long.",
    "415": "The body is not application/json.",
    "422": "The key was sent with another body before.",
    "429": "Too many actions, reports or wrong passwords; Retry-After says how long to wait.",
    "503": "The store does not answer; Retry-After says how long to wait.",
}
_OF_GET = ("400", "401", "403", "404", "429", "503")


@lru_cache(1)
def openapi() -> dict[str, Any]:
    """Return the description of the API."""
    structs = {route.answer for route in ROUTES} | {route.sent for route in ROUTES} | {Problem}
    ordered = sorted(structs, key=lambda one: one.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schemas)
    paths[DOCUMENT_PATH] = {"get": _description()}
    used = {route.sent.__name__ for route in ROUTES if route.method == "GET"}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pulse",
            "version": version(),
            "description": "The scheduled tasks of an application: what ran, and how to steer it.",
        },
        "servers": [{"url": ".."}],  # relative to this document
        "paths": paths,
        "components": {
            "schemas": {name: one for name, one in schemas.items() if name not in used},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "password": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{"token": []}, {"password": []}],
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    doc = (route.call.__doc__ or "").strip()
    found: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{route.call.__name__}",
        "summary": doc.removesuffix("."),
        "description": f"Needs the right to {route.level.value}.",
        "responses": _responses(route),
    }
    parameters = _path_parameters(route)
    if route.method == "GET":
        parameters += _query_parameters(schemas[route.sent.__name__])
    else:
        schema = {"$ref": _REF.format(name=route.sent.__name__)}
        found["requestBody"] = {
            "required": False,
            "content": {"application/json": {"schema": schema}},
        }
    if route.has_key:
        parameters.append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "A second request with the same key makes no other run.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 200},
            }
        )
    if parameters:
        found["parameters"] = parameters
    return found


def _responses(route: Route) -> dict[str, Any]:
    answer = {"$ref": _REF.format(name=route.answer.__name__)}
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(name="Problem")}}}
    statuses = [status for status in _PROBLEMS if route.level is Level.ACT or status in _OF_GET]
    return {
        "200": {
            "description": (route.answer.__doc__ or "").strip().partition("\n")[0],
            "content": {"application/json": {"schema": answer}},
        },
        **{status: {"description": _PROBLEMS[status], "content": problem} for status in statuses},
    }


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    if "{name}" not in route.path:
        return []
    of = "task" if "/tasks/" in route.path else "run"
    text = "The name of a task." if of == "task" else "The id of a run."
    return [
        {
            "name": "name",
            "in": "path",
            "required": True,
            "description": text,
            "schema": {"type": "string", "minLength": 1, "maxLength": 200},
        }
    ]


def _query_parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    required = set(schema.get("required", ()))
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _without_null(one),
        }
        for name, one in schema["properties"].items()
    ]


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a parameter, which is left out rather than null."""
    kinds = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return kinds[0] if kinds else {key: one for key, one in schema.items() if key != "default"}


def _description() -> dict[str, Any]:
    return {
        "operationId": "get_openapi",
        "summary": "Describe the API",
        "description": "Needs the right to read.",
        "responses": {
            "200": {
                "description": "This document.",
                "content": {"application/json": {"schema": {"type": "object"}}},
            }
        },
    }
