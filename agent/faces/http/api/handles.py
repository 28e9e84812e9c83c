"""Handles: they stand for the key of an encrypted archive, which the client gave once."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from agent.faces.http.message import Problem
from agent.mailbox import Action

if TYPE_CHECKING:
    from agent.formats.base import Unlock

LASTS_S = 600
MOST = 16
"""Beyond it, the oldest is forgotten."""


@dataclass(frozen=True, slots=True)
class _Opened:
    store: str
    archive: str
    unlock: "Unlock"


class Handles:
    """In memory only. `keep` belongs to the main thread; `unlock` may be called from any."""

    def __init__(self, later: Callable[[float, Action], object]) -> None:
        self._later = later
        self._opened: dict[str, _Opened] = {}

    def keep(self, store: str, archive: str, unlock: "Unlock") -> str:
        """Keep the key for ten minutes; return its handle."""
        handle = secrets.token_urlsafe(18)
        self._opened[handle] = _Opened(store, archive, unlock)
        while len(self._opened) > MOST:
            del self._opened[next(iter(self._opened))]
        self._later(LASTS_S, partial(self._forget, handle))
        return handle

    def _forget(self, handle: str) -> None:
        self._opened.pop(handle, None)

    def unlock(self, handle: str, store: str, archive: str) -> "Unlock":
        """Return the key of this archive. Raises `Problem` 403 for a handle that is not known (any more)."""
        opened = self._opened.get(handle)
        if opened is None or (opened.store, opened.archive) != (store, archive):
            raise Problem(403, "the handle has expired, or is of another archive: open the archive again")
        return opened.unlock
