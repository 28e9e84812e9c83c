"""Archives that go and archives that stay, for any archives and any rules."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.sources import ArchiveSource, Extent, KnownArchive, is_emptied, last_full
from agent.formats.archive_names import archive_name
from agent.formats.archive_order import DatedArchive
from agent.save.retention import Candidate, KeepRules, removable, undecided

TAG = "0a1b2c3d"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


APP, DATA = ArchiveSource("/srv/app"), ArchiveSource(data_sets=frozenset({"data"}))


def archive(
    age: timedelta,
    series: str = "backup",
    expires: datetime | None = None,
    sound: bool | None = None,
    source: ArchiveSource | None = APP,
    extent: tuple[int, int | None] | None = None,
) -> Candidate:
    name = archive_name(NOW - age, TAG, name=series)
    known = KnownArchive(source, extent and Extent(*extent))
    return Candidate(DatedArchive(name, series, NOW - age, known), expires, sound)


def ages(archives: list[Candidate]) -> list[timedelta]:
    return [NOW - archive.made for archive in archives]


ARCHIVES = st.lists(
    st.builds(
        archive,
        st.integers(0, 200_000).map(lambda minutes: timedelta(minutes=minutes)),
        st.sampled_from(["backup", "network", "a-b"]),
        expires=st.none() | st.integers(-9, 9).map(lambda days: NOW + days * DAY),
        sound=st.sampled_from([None, True, False]),
    ),
    unique_by=lambda archive: archive.name,
)
RULES = st.builds(KeepRules, *[st.integers(0, 5)] * 4)


@given(ARCHIVES, RULES)
def test_the_last_good_one_never_goes(archives: list[Candidate], rules: KeepRules) -> None:
    left = set(archives) - set(removable(archives, rules, NOW))
    assert bool(left) == bool(archives)
    for good in (True, None):
        candidates = [archive for archive in archives if archive.sound is good]
        if candidates:
            newest = max(archive.made for archive in candidates)
            assert any(archive.sound is good and archive.made == newest for archive in left)
            return


@given(ARCHIVES, RULES)
def test_a_retention_date_goes_before_the_rules(archives: list[Candidate], rules: KeepRules) -> None:
    gone = set(removable(archives, rules, NOW))
    dated = [archive for archive in archives if archive.expires]
    assert not [archive for archive in gone if archive.expires and archive.expires > NOW]
    past = {archive for archive in dated if archive.expires and archive.expires <= NOW}
    assert len(past - gone) <= 1, "but for the last good one"


@given(ARCHIVES, RULES, RULES)
def test_a_rule_that_keeps_more_removes_nothing_more(
    archives: list[Candidate], rules: KeepRules, more: KeepRules
) -> None:
    wider = KeepRules(
        rules.last + more.last,
        rules.daily + more.daily,
        rules.weekly + more.weekly,
        rules.monthly + more.monthly,
    )
    if rules:
        assert set(removable(archives, wider, NOW)) <= set(removable(archives, rules, NOW))
    assert set(removable(archives, KeepRules(), NOW)) <= set(removable(archives, rules, NOW))


@given(ARCHIVES, RULES)
def test_once_is_enough(archives: list[Candidate], rules: KeepRules) -> None:
    left = set(archives) - set(removable(archives, rules, NOW))
    assert removable(left, rules, NOW) == []


@given(ARCHIVES, RULES)
def test_the_newest_good_one_of_every_series_stays_with_any_rule(
    archives: list[Candidate], rules: KeepRules
) -> None:
    undated = [replace(archive, expires=None) for archive in archives]
    left = set(undated) - set(removable(undated, rules, NOW))
    for series in {archive.series for archive in undated if archive.sound is not False}:
        good = [archive for archive in undated if archive.series == series and archive.sound is not False]
        newest = max(good, key=lambda archive: (archive.made, archive.name))
        assert newest in left


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        (KeepRules(last=3), [0, 6, 12]),
        (KeepRules(daily=3), [0, 18, 42]),
        (KeepRules(daily=2, weekly=2), [0, 18, 162]),
        (KeepRules(monthly=2), [0, 522]),
        (KeepRules(last=2, daily=2), [0, 6, 18]),
        (KeepRules(), list(range(0, 24 * 30, 6))),
    ],
)
def test_the_newest_of_each_day_week_and_month(rules: KeepRules, kept: list[int]) -> None:
    """Every six hours for thirty days until Sunday noon: a day ends at 18:00, a week at 18:00 on Sundays."""
    archives = [archive(hours * HOUR) for hours in range(0, 24 * 30, 6)]
    gone = set(removable(archives, rules, NOW))
    assert [age // HOUR for age in ages([each for each in archives if each not in gone])] == kept


def test_a_day_without_a_backup_costs_none() -> None:
    """A device that was off for a month still has its last days."""
    archives = [archive(days * DAY) for days in (40, 41, 42, 60)]
    assert ages(removable(archives, KeepRules(daily=3), NOW)) == [60 * DAY]


def test_names_are_series_of_their_own() -> None:
    archives = [archive(hours * HOUR, name) for name in ("db", "web") for hours in (1, 2, 3)]
    gone = removable(archives, KeepRules(last=2), NOW)
    assert [(each.dated.label, (NOW - each.made) // HOUR) for each in gone] == [("db", 3), ("web", 3)]


def test_sources_are_series_of_their_own() -> None:
    """Backups of two directories without a name must not push each other out."""
    sources = [(1, APP), (2, DATA), (3, DATA), (4, APP), (5, APP)]
    archives = [archive(hours * HOUR, source=source) for hours, source in sources]
    assert ages(removable(archives, KeepRules(last=2), NOW)) == [5 * HOUR]


def test_the_last_good_one_of_every_source_stays() -> None:
    past = NOW - HOUR
    archives = [archive(hours * HOUR, expires=past, source=src) for hours, src in ((2, APP), (3, DATA))]
    assert removable(archives, KeepRules(), NOW) == []


def test_what_nobody_can_place_stays_and_takes_nobodys_place() -> None:
    """Encrypted, and not in the journal: the rules cannot know its series."""
    unknown = archive(1 * HOUR, source=None)
    archives = [unknown, archive(2 * HOUR), archive(3 * HOUR)]
    assert ages(removable(archives, KeepRules(last=1), NOW)) == [3 * HOUR]
    assert undecided(archives, KeepRules(last=1), NOW) == [unknown]
    assert undecided(archives, KeepRules(), NOW) == [], "dates alone need no series"


@pytest.mark.parametrize(
    ("emptied", "full"), [((0, None), (12_000, None)), ((0, 0), (12_000, 9)), ((1, 20), (1, 5000))]
)
def test_an_emptied_source_does_not_push_out_the_last_full_archive(
    emptied: tuple[int, int | None], full: tuple[int, int | None]
) -> None:
    """The disk was not mounted, or a dump is empty: two such archives, and the one with data stays."""
    extents = [emptied] * 3 + [full] * 3
    archives = [archive(hours * HOUR, extent=extent) for hours, extent in enumerate(extents, 1)]
    assert ages(removable(archives, KeepRules(last=2), NOW)) == [6 * HOUR, 3 * HOUR]
    assert ages(removable(archives, KeepRules(last=2, emptied_percent=0), NOW)) == [
        each * HOUR for each in (6, 5, 4, 3)
    ]


def test_an_emptied_archive_is_not_the_last_good_one() -> None:
    past = NOW - HOUR
    archives = [
        archive(2 * HOUR, expires=past, extent=(0, 0)),
        archive(3 * HOUR, expires=past, extent=(500, 1)),
    ]
    assert ages(removable(archives, KeepRules(), NOW)) == [2 * HOUR]


@pytest.mark.parametrize(
    ("files", "before", "emptied"),
    [(0, 1, True), (1, 100, False), (1, 101, True), (0, 0, False), (0, None, False), (None, 9, False)],
)
def test_less_than_a_hundredth_is_emptied(files: int | None, before: int | None, emptied: bool) -> None:
    """Of the files, or of their bytes."""
    now, once = (None if count is None else Extent(count, None) for count in (files, before))
    assert is_emptied(now, once, 1) is emptied
    now, once = (None if count is None else Extent(7, count) for count in (files, before))
    assert is_emptied(now, once, 1) is emptied


@given(st.lists(st.integers(0, 1000), max_size=12), st.integers(0, 5))
def test_the_last_full_archive_stays_however_many_empty_ones_follow(counts: list[int], last: int) -> None:
    extents = [Extent(count, None) for count in (500, *counts)]
    archives = [archive((99 - at) * HOUR, extent=extent) for at, extent in enumerate(extents)]
    left = set(archives) - {
        replace(each, emptied=False) for each in removable(archives, KeepRules(last), NOW)
    }
    full = last_full(extents, lambda extent: extent, 1)
    assert any(each.dated.known.extent == full for each in left)


def test_a_damaged_archive_takes_nobodys_place() -> None:
    newest_is_bad = [archive(HOUR, sound=False), archive(2 * HOUR), archive(3 * HOUR)]
    assert ages(removable(newest_is_bad, KeepRules(last=1), NOW)) == [3 * HOUR]
    better_came = [archive(0 * HOUR), *newest_is_bad]
    assert ages(removable(better_came, KeepRules(last=1), NOW)) == [3 * HOUR, 2 * HOUR, HOUR]


def test_the_verified_one_is_worth_more_than_the_newest() -> None:
    past = NOW - HOUR
    archives = [archive(2 * HOUR, expires=past), archive(3 * HOUR, expires=past, sound=True)]
    assert ages(removable(archives, KeepRules(), NOW)) == [2 * HOUR]


def test_an_archive_from_the_future_stays_and_takes_nobodys_place() -> None:
    """The clock was once in 2036: otherwise that archive would be the newest for ever."""
    future = archive(-4000 * DAY)
    archives = [future, archive(1 * HOUR), archive(2 * HOUR)]
    assert ages(removable(archives, KeepRules(last=1), NOW)) == [2 * HOUR]
    assert undecided(archives, KeepRules(), NOW) == [future]


def test_a_clock_that_is_behind_removes_no_newer_archive() -> None:
    archives = [archive(days * DAY) for days in (0, 1, 2, 40, 41)]
    gone = removable(archives, KeepRules(last=1), NOW - 30 * DAY)
    assert ages(gone) == [41 * DAY]


def test_an_archive_from_before_the_clock_was_set_stays() -> None:
    archives = [archive(timedelta(days=20_700)), archive(1 * HOUR), archive(2 * HOUR)]
    assert ages(removable(archives, KeepRules(last=1), NOW)) == [2 * HOUR]
