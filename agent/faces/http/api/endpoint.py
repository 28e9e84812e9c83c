"""One endpoint of the API. Its declaration gives the route, and its part of the OpenAPI document."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from agent.base.text import compact_json
from agent.faces.http.api.context import Api
from agent.faces.http.message import JSON, NO_HEADERS, Problem, Request, Response
from agent.faces.http.routes import Route

PREFIX = "/api/v1"


class Arguments(BaseModel):
    """The arguments of an endpoint: members of the body of a POST, of the query of a GET."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
        defer_build=True,
    )


class Nothing(Arguments):
    """No arguments."""


A = TypeVar("A", bound=Arguments)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of an endpoint when all is well."""

    status: int
    description: str
    value: str = ""
    """The type of the JSON value in `agent.faces.http.api.answers`; empty for an answer without one."""
    media_type: str = ""
    """Of a body that is no JSON."""


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[A]):
    method: str
    path: str
    """Below `PREFIX`, as in `Route.template`."""
    summary: str
    arguments: type[A]
    handler: Callable[[Api, Request, A], Response]
    answers: tuple[Answer, ...]
    problems: tuple[int, ...] = field(default=(), kw_only=True)
    """Further statuses with a problem document, beside those that every endpoint has."""

    def route(self, api: Api) -> Route:
        return Route(self.method, PREFIX + self.path, partial(self._answer, api))

    def _answer(self, api: Api, request: Request) -> Response:
        return self.handler(api, request, self.read(request))

    def read(self, request: Request) -> A:
        """Read the arguments. Raises `Problem` 400 or 415, which names every wrong member and no value."""
        is_post = self.method == "POST"
        if is_post and request.query:
            raise Problem(400, "this request takes its arguments in the body, not in the query")
        members = request.json_object(may_be_empty=True) if is_post else request.arguments()
        try:
            return self.arguments.model_validate(members, strict=is_post)
        except ValidationError as error:
            known = [each.alias or name for name, each in self.arguments.model_fields.items()]
            problems = [_problem(each, known) for each in error.errors(include_url=False)]
            raise Problem(400, "; ".join(problems)) from None


def json_response(
    value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] = NO_HEADERS
) -> Response:
    return Response(status, {"Content-Type": JSON, **headers}, compact_json(value))


def no_content() -> Response:
    return Response(204)


def _problem(error: Mapping[str, Any], known: list[str]) -> str:
    where = ".".join(map(str, error["loc"][:2]))
    if error["type"] == "extra_forbidden":
        return f"unknown field '{where[:80]}': expected {' or '.join(known) or 'none'}"
    return f"'{where[:80]}': {str(error['msg']).removeprefix('Value error, ')}"
