"""The copy of a repository's key and config that the device keeps, and which repository a store has now."""

import json
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from agent.base.durable import replace_file
from agent.base.errors import RepositoryBroken, RepositoryForeign, RepositoryLost, WrongKey
from agent.formats.repository.crypto import Cryptor
from agent.formats.repository.document import FORMAT
from agent.formats.repository.keys import (
    MOST_BYTES,
    USERNAME,
    Opened,
    make_repository,
    open_repository,
    prepared,
    reopened,
)
from agent.formats.repository.objects import Kind, Objects
from agent.formats.repository.reader import whole_snapshots
from providers.errors import AccessDenied, AlreadyThere, NotFound, TargetAbsent

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Kept:
    """The copy. The key file in it is encrypted with the password, as it is at the store."""

    key_file: bytes
    config: bytes
    made: bool
    """False while it is not known that the store has both."""

    @classmethod
    def read(cls, path: Path) -> "Kept | None":
        """Return the copy in a file; None for a missing or damaged one."""
        with suppress(OSError, ValueError, LookupError, TypeError):
            value = json.loads(path.read_text())
            return cls(b64decode(value["keyFile"]), b64decode(value["config"]), bool(value["made"]))
        return None

    def write(self, path: Path) -> None:
        """Replace the file. Raises OSError."""
        value = {
            "keyFile": b64encode(self.key_file).decode(),
            "config": b64encode(self.config).decode(),
            "made": self.made,
        }
        replace_file(path, json.dumps(value), 0o600)


@dataclass(frozen=True, slots=True)
class Found:
    """A repository that is ready for a snapshot."""

    opened: Opened
    is_new: bool
    """True for one that was made just now."""
    is_other: bool
    """True when what the device remembers belongs to another one."""


@dataclass(frozen=True, slots=True)
class Finder:
    """Finds the repository of a store, or makes it."""

    objects: Objects
    path: Path
    """The file with the copy."""
    password: str
    host: str
    now: datetime

    def found(self) -> Found:
        """Return the repository.

        Raises `RepositoryLost`, `RepositoryForeign`, `WrongKey`, `RepositoryBroken`, OSError and
        StorageError.
        """
        kept = Kept.read(self.path)
        stored = self._stored_config()
        if kept and not kept.made:
            return self._made(self._reopened(kept, stored), kept)
        if kept and (stored == kept.config or stored is None):
            return Found(self._reopened(kept, stored), is_new=False, is_other=False)
        if stored:
            opened = self._opened()
            self._refuse_foreign(opened)
            self._keep(opened, made=True)
            return Found(opened, is_new=False, is_other=True)
        self._refuse_headless(stored)
        opened = prepared(self.password, self.host, self.now)
        # On the disk first: another key after a crash would not fit the config.
        self._keep(opened, made=False)
        return self._made(opened, kept)

    def _refuse_foreign(self, opened: Opened) -> None:
        """Raise `RepositoryForeign` for a repository in which another device saves: two share no state.

        Only before the first backup there: a device that is named anew goes on.
        """
        owner = _maker_of(opened.key_file)
        try:
            found = whole_snapshots(self.objects, Cryptor(opened.keys), lambda: None)
            ours = max((each for each in found if each.tag(FORMAT)), key=lambda each: each.time, default=None)
            owner = ours.hostname if ours else owner
        except (AccessDenied, RepositoryBroken) as error:
            log.warning("device of the repository not known", error=str(error))
        if owner not in ("", self.host):
            raise RepositoryForeign(
                f"the repository has the snapshots of the device '{owner}': give this one another prefix, as"
                f" one with '{{device}}' in it, or the id of that device if it replaces it"
            )

    def _refuse_headless(self, stored: bytes | None) -> None:
        """Raise `RepositoryBroken` for a repository that lost its config: another one fits nothing there.

        Raises `RepositoryLost` when the device may not look for the config.
        """
        for kind in (Kind.KEY, Kind.SNAPSHOT):
            with suppress(AccessDenied):
                if not any(True for _ in self.objects.list(kind)):
                    continue
                if stored is None:
                    raise self._lost()
                raise RepositoryBroken(
                    f"the repository has lost its config, and still has objects in '{kind}/': put the config"
                    " back, or remove the rest, or give this device another prefix"
                )

    def _stored_config(self) -> bytes | None:
        """Return the config at the store, b"" when there is none, None when the device may not look."""
        try:
            return self.objects.get(Kind.CONFIG, "", MOST_BYTES)
        except TargetAbsent:
            raise
        except NotFound:
            return b""
        except AccessDenied:
            return None

    def _reopened(self, kept: Kept, stored: bytes | None) -> Opened:
        try:
            return reopened(kept.key_file, kept.config, self.password)
        except (WrongKey, RepositoryBroken):
            if not stored:
                raise
        # The password was changed at the repository.
        opened = self._opened()
        self._keep(opened, made=True)
        return opened

    def _opened(self) -> Opened:
        try:
            return open_repository(self.objects, self.password)
        except AccessDenied as error:
            raise self._lost() from error

    def _made(self, opened: Opened, kept: Kept | None) -> Found:
        try:
            make_repository(self.objects, opened)
        except AlreadyThere as error:
            self.path.unlink(missing_ok=True)
            raise self._lost() from error
        self._keep(opened, made=True)
        return Found(opened, is_new=True, is_other=kept is not None and kept.made)

    def _keep(self, opened: Opened, *, made: bool) -> None:
        Kept(opened.key_file, opened.stored_config, made).write(self.path)

    def _lost(self) -> RepositoryLost:
        return RepositoryLost(
            "a repository exists at the destination, but this device has lost what it knew of it and may not"
            " read it: allow it to read 'config', 'keys/' and 'snapshots/' there, or give it another prefix"
        )


def _maker_of(key_file: bytes) -> str:
    """Return the id of the device that has made a key file; "" when none has."""
    fields = json.loads(key_file)
    return str(fields.get("hostname", "")) if fields.get("username") == USERNAME else ""
