"""The agent's own directories: no backup saves them, no restore changes them."""

import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from agent.jobs.filesystem_probe import NoAnswer, Probes
from agent.jobs.staging import directories_of
from agent.journal import Journal
from agent.restore.working import read_working
from agent.settings import Settings


class OwnDirectories:
    """Belongs to the main thread."""

    def __init__(self, settings: Settings, journal: Journal | None = None) -> None:
        """Working directories of restores are known only with a `journal`."""
        self._settings, self._journal, self._probes = settings, journal, Probes()

    def paths(self) -> tuple[Path, ...]:
        """Return the storage with its parts, the targets, and what restores work in or left.

        Without those on a file system that does not answer: nobody can walk there either.
        """
        targets = (target.path for target in self._settings.targets.values())
        elsewhere = (self._there(path) for path in (*targets, *self._working()))
        return (*directories_of(self._settings.storage), *filter(None, elsewhere))

    def _there(self, path: Path) -> Path | None:
        with suppress(NoAnswer, OSError):
            return self._probes.look(str(path), partial(_resolved, path))
        return None

    def _working(self) -> list[Path]:
        unfinished = self._journal.jobs.unfinished() if self._journal else []
        return [left.path(each.job.id) for each in unfinished for left in read_working(each.working)]


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path, strict=True))
