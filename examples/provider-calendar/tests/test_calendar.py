"""What is particular to this provider. The contract is tested by `providers.testing`."""

from pathlib import Path

import pytest
from calendar_under_test import CalendarUnderTest
from edge_backup_calendar import Calendar

from providers.testing.streams import BytesSource


@pytest.mark.parametrize("name", [".hidden", "100%", "a/%2F", "%2E", ".a.part-0123456789abcdef"])
def test_any_name_has_one_file_of_its_own(tmp_path: Path, name: str) -> None:
    """Names with slashes, dots and percent signs neither collide nor hide."""
    under_test = CalendarUnderTest(tmp_path)
    under_test.write("a/b", b"")
    storage = Calendar(under_test.options(name), under_test.limits)
    storage.put(name, BytesSource(b"x"), {}, {})
    assert sorted(stored.name for stored in storage.list("")) == sorted([name, "a/b"])
    assert under_test.leftovers() == []
