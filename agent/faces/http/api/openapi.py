"""The description of the API in OpenAPI 3.1, made from its endpoints and the models that parse."""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic.alias_generators import to_camel

from agent import __version__
from agent.base.text import compact_json
from agent.faces.http.api import answers
from agent.faces.http.api.endpoint import PREFIX, Answer, Endpoint
from agent.faces.http.api.table import ENDPOINTS
from agent.faces.http.message import JSON
from agent.faces.http.problems import PROBLEM_JSON

_EVERYWHERE = (400, 401, 403, 421, 500, 504)
"""Statuses with a problem document that every endpoint may answer with."""
_PROBLEMS = {
    "400": "The request itself is wrong.",
    "401": "There is no token, or a wrong one.",
    "403": "A setting does not allow it, the page that asks is not the device's, or a key is wrong.",
    "404": "There is no such thing.",
    "409": "Something else runs: ask again after the seconds in `Retry-After`.",
    "413": "The body is too long.",
    "415": "The body is not of the type application/json.",
    "421": "The device does not go by this name.",
    "422": "The device cannot do it as it is.",
    "500": "A bug: see the device's log.",
    "502": "The store refused, or failed.",
    "503": "Too many clients follow the events.",
    "504": "The agent or the store does not answer.",
    "507": "The device cannot write its journal.",
    "default": "The request was refused, or failed.",
}
_MODE: Literal["validation"] = "validation"
_REFERENCE = "#/components/schemas/{model}"
_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "A problem document (RFC 9457).",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do; for people."},
    },
}

Json = dict[str, Any]


@cache
def openapi_json() -> bytes:
    return compact_json(openapi())


def openapi() -> Json:
    schemas, definitions = _schemas(ENDPOINTS)
    paths: Json = {}
    for endpoint in ENDPOINTS:
        operations = paths.setdefault(endpoint.path, {})
        operations[endpoint.method.lower()] = _operation(endpoint, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edge-backup",
            "version": __version__,
            "description": "Backups and restores of this device. See docs/http.md.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": PREFIX}],
        "security": [{"token": []}, {}],
        "paths": paths,
        "components": {
            "schemas": {**definitions, "Problem": _PROBLEM},
            "responses": {name: _problem_response(text) for name, text in _PROBLEMS.items()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Over TCP. The Unix socket needs none.",
                }
            },
        },
    }


def _schemas(endpoints: Iterable[Endpoint[Any]]) -> tuple[Mapping[str, Json], Json]:
    """Return the schema of every type that bodies have, by name, and the definitions that they refer to."""
    types: dict[str, Any] = {}
    for endpoint in endpoints:
        if endpoint.method == "POST" and endpoint.arguments.model_fields:
            types[endpoint.arguments.__name__] = endpoint.arguments
        types |= {each.value: getattr(answers, each.value) for each in endpoint.answers if each.value}
    adapters = [(name, _MODE, TypeAdapter(types[name])) for name in sorted(types)]
    found, rest = TypeAdapter.json_schemas(adapters, ref_template=_REFERENCE)
    return {name: found[name, _MODE] for name in types}, dict(sorted(rest["$defs"].items()))


def _operation(endpoint: Endpoint[Any], schemas: Mapping[str, Json]) -> Json:
    operation: Json = {
        "operationId": to_camel(endpoint.handler.__name__),
        "summary": endpoint.summary,
        "parameters": [_path_parameter(name) for name in re.findall(r"\{(\w+)\}", endpoint.path)],
        "responses": _responses(endpoint, schemas),
    }
    model = endpoint.arguments.model_json_schema(ref_template=_REFERENCE)
    if endpoint.method == "GET":
        operation["parameters"] += _query_parameters(model)
    elif endpoint.arguments.model_fields:
        operation["requestBody"] = {
            "required": bool(model.get("required")),
            "content": {JSON: {"schema": schemas[endpoint.arguments.__name__]}},
        }
    return operation


def _path_parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}


def _query_parameters(model: Json) -> list[Json]:
    required = model.get("required", ())
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            **({"description": text} if (text := schema.pop("description", "")) else {}),
            "schema": schema,
        }
        for name, schema in model.get("properties", {}).items()
    ]


def _responses(endpoint: Endpoint[Any], schemas: Mapping[str, Json]) -> Json:
    responses = {str(answer.status): _response(answer, schemas) for answer in endpoint.answers}
    statuses = {*_EVERYWHERE, *endpoint.problems, *((413, 415) if endpoint.method == "POST" else ())}
    for status in sorted(statuses):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    return responses | {"default": {"$ref": "#/components/responses/default"}}


def _response(answer: Answer, schemas: Mapping[str, Json]) -> Json:
    response: Json = {"description": answer.description}
    if answer.status == HTTPStatus.ACCEPTED:
        response["headers"] = {"Location": {"schema": {"type": "string"}, "description": "Where the job is."}}
    if answer.value:
        response["content"] = {JSON: {"schema": schemas[answer.value]}}
    elif answer.media_type:
        response["content"] = {answer.media_type: {"schema": {"type": "string"}}}
    return response


def _problem_response(description: str) -> Json:
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": description, "content": content}
