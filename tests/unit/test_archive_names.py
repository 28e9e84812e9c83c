"""Names of archives: by them an archive is found, dated and counted to its device."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from agent.base.sources import KnownArchive
from agent.formats.archive_names import (
    ENCRYPTED,
    PLAIN,
    NamedArchive,
    OwnArchives,
    archive_name,
    parse_archive_name,
)

START = datetime(2026, 11, 21, 22, 28, 8, 388229, UTC)
MADE = START.replace(microsecond=388000)
TAG = "0a1b2c3d"
TIMES = st.integers(0, 1 << 52).map(lambda us: datetime.fromtimestamp(0, UTC) + timedelta(microseconds=us))


@given(TIMES, TIMES)
def test_the_order_of_archives_is_the_order_of_times(one: datetime, other: datetime) -> None:
    """The newest archive is found by its name."""
    first = parse_archive_name(archive_name(one, TAG, name="z"))
    second = parse_archive_name(archive_name(other, TAG, name="a"))
    assert first
    assert second
    assert first.made <= second.made if one <= other else first.made >= second.made


def test_an_archive_is_called_by_its_time_and_its_device() -> None:
    """WIRE section 2: `backup-<UTC yyyy-mm-dd-HH.MM.SS.mmm>-<8 hex digits>.zip`."""
    assert archive_name(START, TAG) == "backup-2026-11-21-22.28.08.388-0a1b2c3d.zip"
    named = archive_name(START, TAG, ENCRYPTED, "before-update")
    assert named == "before-update-2026-11-21-22.28.08.388-0a1b2c3d.zip.age"


@given(
    st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True), st.sampled_from([PLAIN, ENCRYPTED])
)
def test_whatever_an_archive_is_called_its_name_tells_backup_and_time(name: str, suffix: str) -> None:
    archive = archive_name(START, TAG, suffix, name)
    twice = archive_name(START, TAG, suffix, archive)
    expected = [
        NamedArchive(archive, name, MADE, TAG),
        NamedArchive(f"in/{archive}", f"in/{name}", MADE, TAG),
    ]
    assert [parse_archive_name(each.name) for each in expected] == expected
    assert parse_archive_name(twice) == NamedArchive(twice, archive, MADE, TAG)
    assert parse_archive_name(f"{archive}.part") is None


def test_an_archive_is_this_device_s_by_its_tag_or_because_the_journal_saw_it_being_made() -> None:
    """Only a number says that: an archive that was learned of, as by retention, may be anybody's."""
    ours, former, learned = (archive_name(START, tag) for tag in (TAG, "ffffffff", "eeeeeeee"))
    own = OwnArchives(
        TAG, {former: KnownArchive(number=1), learned: KnownArchive(), "x.zip": KnownArchive(number=2)}
    )
    names = [ours, former, learned, archive_name(START, "dddddddd"), "x.zip"]
    assert [own.parse(name) is not None for name in names] == [True, True, False, False, False]
