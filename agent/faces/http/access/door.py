"""The door for every request: which device it means, which page sends it, and who its client is."""

from collections.abc import Sequence

from agent.faces.http.access.hosts import check_fetch, check_host, check_origin, proves_own_origin
from agent.faces.http.access.sessions import Sessions
from agent.faces.http.access.tokens import Backoff, Token
from agent.faces.http.message import Problem, Request, Response
from agent.faces.http.routes import SAFE_METHODS, Route, Site

_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="edge-backup"'}


class Door:
    """The access to all sites. May be used from any thread."""

    def __init__(self, names: Sequence[str], token: Token | None) -> None:
        """`names` are those of the device. Without a token only client certificates let people in."""
        self._names, self._token = names, token
        self._backoff, self._sessions = Backoff(), Sessions()

    def check_host(self, request: Request) -> None:
        """Raise `Problem` 421 when the request does not mean this device."""
        if not request.peer.is_local:
            check_host(request, self._names)

    def admit(self, request: Request, route: Route, site: Site) -> str:
        """Return a name for who sends the request. Raises `Problem` 401, 403 or 429."""
        if request.peer.is_local:
            return f"user {request.peer.user_id}"
        if request.method not in SAFE_METHODS:
            check_origin(request)
        if route.is_public:
            return "anybody"
        if request.peer.subject:
            check_fetch(request)
            return f"certificate {request.peer.subject}"
        token = _token(request, site)
        if token is not None:
            self._check_token(token, request.peer.address)
            return "token"
        return self._session(request)

    def is_still_admitted(self, request: Request, site: Site) -> bool:
        """Return False when the token that let this request in was replaced, or its session has ended."""
        if request.peer.is_local or request.peer.subject:
            return True
        token = _token(request, site)
        if token is not None:
            return self._fingerprint_of(token) is not None
        return self._find_session(request) is not None

    def sign_in(self, token: str, request: Request) -> Response:
        """Return an answer with a cookie that stands for the token. Raises `Problem` 401 or 429."""
        fingerprint = self._check_token(token, request.peer.address)
        cookie = self._sessions.begin(fingerprint, tls=request.peer.tls)
        return Response(204, {"Set-Cookie": cookie})

    def sign_out(self, request: Request) -> Response:
        return Response(204, {"Set-Cookie": self._sessions.end(request)})

    def _check_token(self, token: str, address: str) -> bytes:
        """Return the fingerprint of the right token. Raises `Problem`."""
        self._backoff.check(address)
        fingerprint = self._fingerprint_of(token)
        if fingerprint is None:
            self._backoff.failed(address, token)
            raise Problem(401, "the token is wrong", _CHALLENGE)
        self._backoff.succeeded(address)
        return fingerprint

    def _session(self, request: Request) -> str:
        session = self._find_session(request)
        if session is None:
            raise Problem(401, self._how_to_sign_in(request), _CHALLENGE)
        check_fetch(request)
        if request.method not in SAFE_METHODS and not proves_own_origin(request):
            raise Problem(403, "a request with a cookie must have an Origin or Sec-Fetch-Site")
        return session

    def _find_session(self, request: Request) -> str | None:
        return self._sessions.find(request, self._token.fingerprint() if self._token else None)

    def _fingerprint_of(self, token: str) -> bytes | None:
        return self._token.check(token) if self._token else None

    def _how_to_sign_in(self, request: Request) -> str:
        if "authorization" in request.headers:
            return "expected 'Authorization: Bearer <token>'"
        if self._sessions.has_cookie(request):
            return "the session has expired: sign in again"
        return "sign in with the token of the device"


def _token(request: Request, site: Site) -> str | None:
    """Return the token of a request; None without one, or with another scheme of `Authorization`.

    A web server in front may ask for a password of its own, which browsers then send beside our cookie.
    """
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return (token.strip() if scheme.lower() == "bearer" else "") or site.token_in(request)
