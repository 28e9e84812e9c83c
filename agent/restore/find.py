"""Finds the archive that a restore takes when the command names none: the newest of a source.

The journal or else the archive's manifest tells its source and time. When neither does, no archive is taken:
restoring the wrong one is worse than asking.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial

from agent.base.errors import OF_ANOTHER_DEVICE, NoneChosen, NotInArchive
from agent.base.sources import ArchiveSource, Asked, KnownArchive, is_emptied, last_full
from agent.base.text import readable
from agent.base.times import parse_time, time_text
from agent.formats.archive_names import ALL_ARCHIVES, OwnArchives
from agent.formats.archive_order import DatedArchive, in_order, is_from_future, known_from, read_manifest
from agent.formats.base import ReadFormat, Unlock
from agent.transfer.context import Destination
from providers.api import Capability
from providers.errors import NotFound

_NAMED = 4
"""The most archives that a message names: it has to be readable, and short enough for the twin."""
_LOOKED_AT = 100
"""The most manifests that are read: the destination may be slow, and the backend waits."""


@dataclass(frozen=True, slots=True)
class Search:
    """The archives of a device, and which of them is wanted."""

    own: OwnArchives
    clock: Callable[[], datetime]
    asked: Asked | None = None
    """None for the newest archive, whatever it is of."""
    before: datetime | None = None
    """The archive has to be older than this."""
    device_id: str = ""
    """The id of another device; empty for this one."""
    is_described: bool = False
    """True when the command describes the archive: the outcome then names the one that was found."""
    emptied_percent: int = 0
    """An archive with a smaller percentage of the last full one's files or bytes is told; 0 for none."""

    @property
    def whose(self) -> str:
        return f"device '{readable(self.device_id)}'" if self.device_id else "this device"

    @property
    def when(self) -> str:
        return f" from before {time_text(self.before)}" if self.before else ""


@dataclass(frozen=True, slots=True)
class Found:
    """The archive to take."""

    name: str
    note: str = ""
    """A note for people about the choice; empty when there was none to make."""


def find(destination: Destination, search: Search, archives: ReadFormat, unlock: Unlock) -> Found:
    """Return the archive that the command names, else the newest of the wanted source.

    Raises `NotFound` and `NotInArchive` when there is none, `NoneChosen` when it cannot be known, and
    `StorageError`.
    """
    if destination.name:
        return Found(destination.name)
    return _Looker(destination, search, archives, unlock).found()


class _Looker:
    """Goes through the archives at a destination, newest first."""

    def __init__(
        self, destination: Destination, search: Search, archives: ReadFormat, unlock: Unlock
    ) -> None:
        self._destination, self._search, self._archives = destination, search, archives
        # The newest is asked twice: when it had read all, and what it is of.
        self._read_manifest = lru_cache(1)(partial(read_manifest, archives, destination, unlock=unlock))
        self._looked_at = 0

    def found(self) -> Found:
        now, search = self._search.clock(), self._search
        listed = self._archives.listed(self._destination, search.own)
        archives = self._old_enough(in_order(listed, search.own.known, now))
        future = [archive for archive in archives if is_from_future(archive, now)]
        candidates = [archive for archive in archives if archive not in future]
        chosen = self._chosen(candidates, future)
        undated = [archive for archive in candidates if not archive.is_dated and archive is not chosen]
        passed_over = [
            f"{reason}: {_names(some)}"
            for reason, some in (("dated in the future", future), ("from before the clock was set", undated))
            if some
        ]
        taken = f"'{chosen.name}' was chosen" if passed_over or search.is_described else ""
        ignored = f"; ignored, {'; '.join(passed_over)}" if passed_over else ""
        emptied = self._emptied(chosen, candidates[candidates.index(chosen) + 1 :])
        return Found(chosen.name, "; ".join(filter(None, (taken + ignored, emptied))))

    def _emptied(self, chosen: DatedArchive, older: Sequence[DatedArchive]) -> str:
        """Return a warning when the journal has a full archive of this source before an emptied one."""
        percent, source = self._search.emptied_percent, chosen.known.source
        series = (each for each in reversed(older) if each.known.source == source and each.known.extent)
        full = last_full(series, lambda each: each.known.extent, percent)
        if full is None or not is_emptied(chosen.known.extent, full.known.extent, percent):
            return ""
        return f"'{chosen.name}' has far less in it than '{full.name}', the last full one: is it right?"

    def _old_enough(self, archives: Sequence[DatedArchive]) -> Sequence[DatedArchive]:
        """Return the archives from before the time that the search names. Raises `NotFound` for none."""
        search, before = self._search, self._search.before
        if not archives:
            others = self._others()
            raise NotFound(f"there is no archive of {search.whose} at {self._destination.shown}{others}")
        if before is None:
            return archives
        found = [archive for archive in archives if archive.is_dated and archive.made < before]
        # One backup runs at a time: only the newest of these may have read files after that time.
        if found and self._had_read_all(found[0]) >= before:
            del found[0]
        if not found:
            oldest = archives[-1]
            raise NotFound(
                f"there is no archive of {search.whose}{search.when}:"
                f" the oldest is '{oldest.name}' of {time_text(oldest.made)}"
            )
        return found

    def _had_read_all(self, archive: DatedArchive) -> datetime:
        """Return when its backup had read everything, as its manifest says; else when it began."""
        manifest = self._read_manifest(name=archive.name) if self._can_look else None
        try:
            ended = parse_time(manifest.ended) if manifest and manifest.ended else archive.made
            return max(ended, archive.made)  # a snapshot may have a later time than its own
        except ValueError:
            return archive.made

    def _others(self) -> str:
        """Return what to say of other devices: which archives they have there, or how to name one."""
        found = self._archives.listed(self._destination, ALL_ARCHIVES)
        newest = {each.device_tag: each for each in sorted(found, key=lambda each: each.made)}
        shown = [self._with_device(each.name) for each in list(newest.values())[:_NAMED]]
        if shown:
            return f"; of other devices there are {', '.join(shown)}"
        return "" if self._search.device_id else f"; {OF_ANOTHER_DEVICE}"

    def _with_device(self, name: str) -> str:
        manifest = self._read_manifest(name=name) if self._can_look else None
        return f"'{readable(name)}'" + (f" of '{readable(manifest.device)}'" if manifest else "")

    @property
    def _can_look(self) -> bool:
        return Capability.READ_RANGE in self._destination.storage.capabilities

    def _chosen(self, candidates: Sequence[DatedArchive], future: Sequence[DatedArchive]) -> DatedArchive:
        if not candidates:
            raise NoneChosen(f"all archives are dated in the future: {_ask_for(future)}")
        asked = self._search.asked
        if asked is None:
            return candidates[0]
        found = self._newest_of(asked, candidates)
        if found.is_dated or sum(not each.is_dated for each in candidates) == 1:
            return found
        raise NoneChosen(
            f"which archive is the newest cannot be known, the clock was not set: {_ask_for(candidates)}"
        )

    def _newest_of(self, asked: Asked, candidates: Sequence[DatedArchive]) -> DatedArchive:
        others: dict[ArchiveSource, DatedArchive] = {}
        for archive in candidates:
            source = self._about(archive).source
            if source is None:
                raise NoneChosen(f"it cannot be known what '{archive.name}' is of: {_ask_for(candidates)}")
            if source.holds(asked):
                return archive
            others.setdefault(source, archive)
        parts = [source for source in others if source.is_part_of(asked)]
        if len(parts) == 1:
            return others[parts[0]]
        here = ", ".join(f"{source} ('{archive.name}')" for source, archive in list(others.items())[:_NAMED])
        raise NotInArchive(
            f"nothing restored: no archive of {asked}{self._search.when} is here, only of {here}:"
            " name the one meant"
        )

    def _about(self, archive: DatedArchive) -> KnownArchive:
        """Return the facts of an archive, from its manifest when the journal does not know it."""
        if archive.known.source is not None or not self._can_look or self._looked_at == _LOOKED_AT:
            return archive.known
        self._looked_at += 1
        return known_from(self._read_manifest(name=archive.name))


def _ask_for(archives: Sequence[DatedArchive]) -> str:
    return f"name one of {_names(archives)}"


def _names(archives: Sequence[DatedArchive]) -> str:
    names = ", ".join(f"'{archive.name}'" for archive in archives[:_NAMED])
    more = len(archives) - _NAMED
    return f"{names} and {more} more" if more > 0 else names
