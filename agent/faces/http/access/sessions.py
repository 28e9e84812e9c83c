"""Sessions of browsers: a random id in a cookie that no script can read, and no other site can send."""

import hashlib
import secrets
import threading
import time
from dataclasses import dataclass

from agent.faces.http.message import Request

SESSION_S = 12 * 3600.0
MAX_SESSIONS = 32


@dataclass(frozen=True, slots=True)
class _Session:
    ends_s: float
    token: bytes
    """Fingerprint of the token that it was given for: a new token ends it."""


class Sessions:
    """At most `MAX_SESSIONS`; a further one ends the oldest. May be used from any thread."""

    def __init__(self) -> None:
        # Browsers keep one cookie of a name for all ports of a host: another agent must not replace ours.
        self._name = f"edge-backup-{secrets.token_hex(4)}"
        self._sessions: dict[bytes, _Session] = {}
        self._lock = threading.Lock()

    def begin(self, token: bytes, *, tls: bool) -> str:
        """Begin a session, and return the header that sets its cookie."""
        session_id = secrets.token_urlsafe(32)
        with self._lock:
            self._sessions[_hash(session_id)] = _Session(time.monotonic() + SESSION_S, token)
            if len(self._sessions) > MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
        return _cookie(self._cookie_name(tls=tls), session_id, int(SESSION_S), tls=tls)

    def find(self, request: Request, token: bytes | None) -> str | None:
        """Return a name for the request's session, for the log; None when it has none that is valid."""
        for session_id in self._ids(request):
            digest = _hash(session_id)
            with self._lock:
                session = self._sessions.get(digest)
                if session and time.monotonic() >= session.ends_s:
                    del self._sessions[digest]
                elif session and session.token == token:
                    return f"session {digest.hex()[:8]}"
        return None

    def end(self, request: Request) -> str:
        """End the request's sessions, and return the header that removes the cookie."""
        with self._lock:
            for session_id in self._ids(request):
                self._sessions.pop(_hash(session_id), None)
        return _cookie(self._cookie_name(tls=request.peer.tls), "", 0, tls=request.peer.tls)

    def has_cookie(self, request: Request) -> bool:
        """Return True when the browser was signed in since the agent's start."""
        return bool(self._ids(request))

    def _ids(self, request: Request) -> list[str]:
        """Return the session ids in the cookies: several, when another port of this host forges one."""
        wanted = self._cookie_name(tls=request.peer.tls)
        pairs = (cookie.strip().partition("=") for cookie in request.headers.get("cookie", "").split(";"))
        return [text for name, _, text in pairs if name == wanted and text]

    def _cookie_name(self, *, tls: bool) -> str:
        # With the prefix, browsers take it only over TLS and for this host alone (RFC 6265bis, 4.1.3.2).
        return f"__Host-{self._name}" if tls else self._name


def _hash(session_id: str) -> bytes:
    # Looking up a hash takes a time that says nothing about the ids that exist.
    return hashlib.sha256(session_id.encode("utf-8", "surrogateescape")).digest()


def _cookie(name: str, session_id: str, max_age_s: int, *, tls: bool) -> str:
    secure = "; Secure" if tls else ""
    return f"{name}={session_id}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"
