"""Finds the handler of a request. Sites differ in how they word their errors."""

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import unquote

import structlog

from agent.base.refusals import SEE_LOG, Refused
from agent.faces.http.message import Problem, Request, Response
from agent.faces.http.problems import problem_document, problem_of
from agent.log.sparing import SparingLog

log = structlog.get_logger(__name__)

Handler = Callable[[Request], Response]

SAFE_METHODS = ("GET", "HEAD")
"""Handlers of these methods change nothing (RFC 9110 section 9.2.1)."""


@dataclass(frozen=True, slots=True)
class Route:
    """`template` is a path with variable parts: `{name}` for one segment, `{name...}` for all that follow.

    A GET handler also answers HEAD; the connection leaves the body away.
    """

    method: str
    template: str
    handler: Handler
    is_public: bool = False
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", _pattern(self.template))


@dataclass(frozen=True, slots=True)
class Site:
    """Routes with one form of error."""

    routes: Sequence[Route]
    render: Callable[[Request, Problem], Response] = problem_document
    open_prefix: str = ""
    """A pattern that may stand before each path."""
    token_in: Callable[[Request], str | None] = lambda _request: None
    """Returns the token from where this site's clients put it beside the header `Authorization`."""


class Access(Protocol):
    """Decides who may come in. `check_host` and `admit` raise `Problem`."""

    def check_host(self, request: Request) -> None:
        """Check that the request means this device: before anything else, whatever the path."""

    def admit(self, request: Request, route: Route, site: Site) -> str:
        """Return a name for who sends the request, for the log."""

    def is_still_admitted(self, request: Request, site: Site) -> bool:
        """Return False when what let a request in does not count any more. Raises nothing."""


class Router:
    def __init__(self, own: Site, others: Callable[[], Sequence[Site]], access: Access) -> None:
        """`own` is looked at first, and words the problems of paths that no site has.

        `others` makes the other sites, when a path is not one of `own`.
        """
        self._own, self._others, self._access = own, others, access
        self._loaded: Sequence[Site] | None = None
        self._loading = threading.Lock()
        self._sparing = SparingLog(log)

    def answer(self, request: Request) -> Response:
        """Return the answer to a request; raises nothing. Each change leaves a line in the log."""
        site, found = self._find(request.path)
        try:
            self._access.check_host(request)
            if request.unreadable:
                raise request.unreadable
            route, parts = _chosen(request, found)
            who = self._access.admit(request, route, site)
        except Problem as problem:
            response = site.render(request, problem)
            self._audit(request, response, "nobody")
            return response
        response = self._guarded(_handled(route, replace(request, parts=parts), site), request, site)
        self._audit(request, response, who)
        return response

    def _guarded(self, response: Response, request: Request, site: Site) -> Response:
        """Return the response; a stream of events ends when its client would not be let in any more."""

        def allowed(pieces: Iterable[bytes]) -> Iterator[bytes]:
            for piece in pieces:
                if not self._access.is_still_admitted(request, site):
                    return
                yield piece

        if not response.is_events or isinstance(response.body, bytes):
            return response
        return replace(response, body=allowed(response.body))

    def _audit(self, request: Request, response: Response, who: str) -> None:
        """Log a change; of those that are refused, a flood is a few lines."""
        if request.method in SAFE_METHODS:
            return
        # Never the query: it may hold a token.
        what = f"{request.method} {request.path}"
        facts = {"who": who, "address": request.peer.address, "what": what, "status": response.status}
        if response.status < 400:
            log.info("http change carried out", **facts)
        else:
            self._sparing.warning("http change refused", **facts)

    def _find(self, path: str) -> tuple[Site, list[tuple[Route, Mapping[str, str]]]]:
        for site in self._sites():
            bare = re.sub(f"^(?:{site.open_prefix})", "", path) if site.open_prefix else path
            found = [(each, match) for each in site.routes if (match := each.pattern.fullmatch(bare))]
            if found:
                return site, [(route, _decoded(match.groupdict())) for route, match in found]
        return self._own, []

    def _sites(self) -> Iterator[Site]:
        yield self._own
        with self._loading:
            if self._loaded is None:
                self._loaded = self._others()
        yield from self._loaded


def _handled(route: Route, request: Request, site: Site) -> Response:
    try:
        return route.handler(request)
    except Problem as problem:
        return site.render(request, problem)
    except Refused as refused:
        return site.render(request, problem_of(refused))
    except Exception:
        log.exception("internal error", method=request.method, path=route.template)
        return site.render(request, Problem(500, SEE_LOG))


def _chosen(
    request: Request, found: Sequence[tuple[Route, Mapping[str, str]]]
) -> tuple[Route, Mapping[str, str]]:
    """Return the route with the request's method. Raises `Problem` 404 or 405."""
    if not found:
        raise Problem(404, "no such path: /api/v1/openapi.json lists what there is")
    method = "GET" if request.method == "HEAD" else request.method
    for route, parts in found:
        if route.method == method:
            return route, parts
    methods = {route.method for route, _ in found}
    allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    raise Problem(405, f"method {request.method} is not possible here: use {allowed}", {"Allow": allowed})


def _decoded(parts: Mapping[str, str]) -> Mapping[str, str]:
    """Return the parts percent-decoded: a text of any characters, also of slashes."""
    return {name: unquote(part) for name, part in parts.items()}


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template)
    whole = re.sub(r"\\\{(\w+)\\\.\\\.\\\.\\\}", r"(?P<\1>.+)", escaped)
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", whole))
