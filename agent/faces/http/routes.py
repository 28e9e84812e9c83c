"""Finds the handler of a request. Sites differ in how they word their errors."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

import structlog

from agent.base.refusals import Refused
from agent.faces.http.message import Problem, Request, Response
from agent.faces.http.problems import problem_of

log = structlog.get_logger(__name__)

Handler = Callable[[Request], Response]


@dataclass(frozen=True, slots=True)
class Route:
    """`template` is a path with variable parts: `{name}` for one segment, `{name...}` for all that follow."""

    method: str
    template: str
    handler: Handler
    is_public: bool = False
    """True when nobody has to sign in for it."""
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", _pattern(self.template))


@dataclass(frozen=True, slots=True)
class Site:
    """Routes with one form of error."""

    routes: Sequence[Route]
    render: Callable[[Request, Problem], Response]
    """Words a problem."""
    open_prefix: str = ""
    """A pattern that may stand before each path."""
    token_in: Callable[[Request], str | None] = lambda _request: None
    """Returns the token from where this site's clients put it beside the header `Authorization`."""


class Router:
    """Calls `admit` before the handler of a request; that raises `Problem` when it may not come in."""

    def __init__(self, sites: Sequence[Site], admit: Callable[[Request, Route], None]) -> None:
        """The last site words the problems of paths that no site has."""
        self._sites, self._admit = sites, admit

    def answer(self, request: Request) -> Response:
        """Return the answer to a request; raises nothing."""
        site, found = self._find(request.path)
        try:
            route, parts = _chosen(request, found)
            self._admit(request, route)
            return route.handler(replace(request, parts=parts))
        except Problem as problem:
            return site.render(request, problem)
        except Refused as refused:
            return site.render(request, problem_of(refused))
        except Exception:
            log.exception("internal error", method=request.method)
            return site.render(request, Problem(500, "internal error: see the device's log"))

    def _find(self, path: str) -> tuple[Site, list[tuple[Route, Mapping[str, str]]]]:
        for site in self._sites:
            bare = re.sub(f"^(?:{site.open_prefix})", "", path) if site.open_prefix else path
            found = [(each, match) for each in site.routes if (match := each.pattern.fullmatch(bare))]
            if found:
                return site, [(route, _decoded(match.groupdict())) for route, match in found]
        return self._sites[-1], []


def _chosen(
    request: Request, found: Sequence[tuple[Route, Mapping[str, str]]]
) -> tuple[Route, Mapping[str, str]]:
    """Return the route with the request's method. Raises `Problem` 404 or 405."""
    if not found:
        raise Problem(404, "no such path: /api/v1/openapi.json lists what there is")
    for route, parts in found:
        if route.method == request.method:
            return route, parts
    allowed = ", ".join(sorted({route.method for route, _ in found}))
    raise Problem(405, f"method {request.method} is not possible here: use {allowed}", {"Allow": allowed})


def _decoded(parts: Mapping[str, str]) -> Mapping[str, str]:
    return {name: unquote(part, errors="surrogateescape") for name, part in parts.items()}


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template)
    whole = re.sub(r"\\\{(\w+)\\\.\\\.\\\.\\\}", r"(?P<\1>.+)", escaped)
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", whole))
