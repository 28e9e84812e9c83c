"""The storage's memory of restores beside the journal, for a start of the agent with a new journal."""

import json
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.base.durable import replace_file
from agent.base.errors import disk_errors

_MOST_DIRECTORIES = 1000


@dataclass(frozen=True, slots=True)
class RestoreMemory:
    """Two files beside the journal: the key of proofs, and the directories that restores have worked in."""

    storage: Path

    def key(self) -> bytes | None:
        """Return the key; None when no restore has made one. Raises OSError."""
        with suppress(FileNotFoundError, ValueError):
            return bytes.fromhex(self._key_file.read_text("ascii"))
        return None

    def made_key(self) -> bytes:
        """Return the key, and make it when there is none. Raises OSError."""
        known = self.key()
        if not known:
            replace_file(self._key_file, secrets.token_hex(32), 0o600)
            known = self.key()
        assert known
        return known

    def directories(self) -> list[Path]:
        """Return the directories that restores have worked in, the latest last. Raises OSError."""
        with suppress(FileNotFoundError, ValueError):
            return [Path(name) for name in json.loads(self._directories_file.read_text("ascii"))]
        return []

    def remember(self, directories: Iterable[Path]) -> None:
        """Keep the directories that a restore is about to work in. Raises IoError and NoSpace."""
        with disk_errors("cannot note where the restore works"):
            known, new = self.directories(), list(directories)
            if known[-len(new) :] != new:
                names = [os.fspath(path) for path in (*(each for each in known if each not in new), *new)]
                replace_file(self._directories_file, json.dumps(names[-_MOST_DIRECTORIES:]), 0o600)

    @property
    def _key_file(self) -> Path:
        return self.storage / "restore.key"

    @property
    def _directories_file(self) -> Path:
        return self.storage / "restored-into.json"
