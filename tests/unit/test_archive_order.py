"""Which archives of a device there are, what they are of, and in which order they were made."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.roots import Root
from agent.base.sources import ArchiveSource, Extent, KnownArchive
from agent.formats.archive_names import archive_name, parse_archive_name
from agent.formats.archive_order import DatedArchive, in_order, is_from_future
from agent.journal import Journal

TAG = "0a1b2c3d"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
APP = ArchiveSource("/srv/app")


def archives_of(names: Iterable[str], known: Mapping[str, KnownArchive], now: datetime) -> list[DatedArchive]:
    named = [parse_archive_name(each) for each in names]
    return in_order([each for each in named if each], known, now)


def name(when: datetime) -> str:
    return archive_name(when, TAG)


def test_the_journal_knows_the_order_whatever_the_clock_said() -> None:
    """First in 2036, then right, then after a start without a clock."""
    times = [NOW - 3 * DAY, datetime(2036, 1, 1, tzinfo=UTC), NOW - 2 * DAY, datetime(1970, 1, 1, tzinfo=UTC)]
    known = {name(when): KnownArchive(APP, Extent(1, 1), number) for number, when in enumerate(times, 1)}
    found = archives_of(known, known, NOW)
    assert [each.name for each in found] == [name(when) for when in reversed(times)]
    assert [each.made for each in found] == [NOW - 2 * DAY] * 3 + [NOW - 3 * DAY]
    assert not [each for each in found if is_from_future(each, NOW)]
    assert all(each.is_dated for each in found)


def test_without_the_journal_the_future_and_the_time_before_the_clock_are_told_apart() -> None:
    times = [datetime(1970, 1, 1, tzinfo=UTC), NOW - DAY, datetime(2036, 1, 1, tzinfo=UTC)]
    undated, right, future = reversed(archives_of(map(name, times), {}, NOW))
    assert [is_from_future(each, NOW) for each in (undated, right, future)] == [False, False, True]
    assert [each.is_dated for each in (undated, right, future)] == [False, True, True]


def test_a_clock_that_was_set_back_a_little_makes_no_future() -> None:
    (archive,) = archives_of([name(NOW + DAY / 2)], {}, NOW)
    assert not is_from_future(archive, NOW)


@given(st.lists(st.integers(0, 70 * 365 * 24), unique=True, max_size=8))
def test_what_the_journal_saw_is_in_its_order_at_any_time(hours: list[int]) -> None:
    names = [name(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=each)) for each in hours]
    known = {each: KnownArchive(APP, Extent(1, 1), number) for number, each in enumerate(names, 1)}
    for now in (NOW, datetime(1970, 1, 2, tzinfo=UTC)):
        found = archives_of(known, known, now)
        assert [each.known.number for each in found] == sorted(range(1, len(known) + 1), reverse=True)


def roots(*given: tuple[str, str, set[str] | None]) -> ArchiveSource:
    return ArchiveSource.of_roots(
        Root(prefix, Path(path), None if names is None else frozenset(names)) for prefix, path, names in given
    )


WHOLE = roots(("", "/srv/app", None))
CONFIG = roots(("", "/srv/app", {"config"}))
SETS = roots(("network/etc", "/etc", {"hosts"}), ("logs/var/log", "/var/log", None))


@pytest.mark.parametrize(
    ("archive", "asked", "holds"),
    [
        (WHOLE, WHOLE, True),
        (WHOLE, CONFIG, True),
        (CONFIG, CONFIG, True),
        (CONFIG, roots(("", "/srv/app", {"config/net"})), True),
        (CONFIG, WHOLE, False),
        (CONFIG, roots(("", "/srv/app", {"config", "data"})), False),
        (WHOLE, roots(("", "/srv", None)), False),
        (SETS, WHOLE, False),
        (WHOLE, SETS, False),
        (SETS, roots(("network/etc", "/etc", {"hosts"})), True),
        (roots(("network/etc", "/etc", {"hosts"})), SETS, False),
        (ArchiveSource(), ArchiveSource(), True),
        (ArchiveSource(), WHOLE, False),
        (WHOLE, ArchiveSource(), False),
    ],
)
def test_an_archive_holds_what_is_asked_for(
    archive: ArchiveSource, asked: ArchiveSource, holds: bool
) -> None:
    assert archive.holds(asked) is holds


@pytest.mark.parametrize("source", [WHOLE, CONFIG, SETS, ArchiveSource()])
def test_a_source_survives_the_journal(journal: Journal, source: ArchiveSource) -> None:
    journal.archives.made("a.zip", source, Extent(3, 30))
    assert journal.archives.known() == {"a.zip": KnownArchive(source, Extent(3, 30), 1)}
    assert journal.archives.extents(source) == [Extent(3, 30)]


def test_a_source_of_a_great_many_paths_is_left_to_the_manifest(journal: Journal) -> None:
    journal.archives.made("a.zip", roots(("", "/srv", {f"name-{at}" for at in range(9999)})), Extent(3, 30))
    assert journal.archives.known() == {"a.zip": KnownArchive(None, Extent(3, 30), 1)}


def test_what_a_manifest_said_has_no_place_in_the_order(journal: Journal) -> None:
    journal.archives.learned({"old.zip": KnownArchive(APP, Extent(5, None)), "strange.zip": KnownArchive()})
    assert journal.archives.known() == {"old.zip": KnownArchive(APP, Extent(5, None))}
    assert journal.archives.extents(APP) == []
