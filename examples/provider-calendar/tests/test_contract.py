"""The contract suite of edge-backup, run over this provider. From a checkout of edge-backup:

    PYTHONPATH=.:examples/provider-calendar pytest examples/provider-calendar/tests

Every test of the suite asks for the fixture `place`; importing the tests and giving them one is all.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

import pytest
from edge_backup_calendar import Calendar

from providers.api import Limits, StorageFactory, Target
from tests.contract.test_contract_bounds import *  # noqa: F403
from tests.contract.test_contract_faults import *  # noqa: F403
from tests.contract.test_contract_get import *  # noqa: F403
from tests.contract.test_contract_put import *  # noqa: F403
from tests.support.streams import BytesSource


class CalendarPlace:
    """A `tests.contract.places.Place`: looks at the directory with eyes of its own."""

    factory: StorageFactory = Calendar
    networked = False
    secrets: Sequence[str] = ()

    def __init__(self, root: Path) -> None:
        self._root = root
        self.limits = Limits(targets={"device": Target(root)})

    def options(self, name: str) -> dict[str, str]:
        return {"calendar.target": "device", "calendar.name": name}

    def bad_options(self) -> Sequence[tuple[Mapping[str, str], set[str]]]:
        return [
            ({}, {"calendar.target"}),
            ({"calendar.target": "attic", "calendar.nmae": "x"}, {"calendar.target", "calendar.nmae"}),
        ]

    def denied_options(self, name: str) -> dict[str, str] | None:  # noqa: ARG002
        return None

    def write(self, name: str, data: bytes) -> None:
        month = "2026-11" if "2026-11-" in name else "undated"
        path = self._root / month / name.replace("/", "%2F")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)

    def read(self, name: str) -> bytes | None:
        found = [path for path in self._files() if unquote(path.name) == name]
        return found[0].read_bytes() if found else None

    def names(self) -> list[str]:
        return sorted(unquote(path.name) for path in self._files() if not path.name.startswith("."))

    def leftovers(self) -> list[str]:
        """Unfinished files, and months in which nothing is."""
        empty = [path.name for path in self._root.iterdir() if not any(path.iterdir())]
        return empty + [path.name for path in self._files() if path.name.startswith(".")]

    def _files(self) -> list[Path]:
        return [path for path in self._root.rglob("*") if path.is_file()]


@pytest.fixture
def place(tmp_path: Path) -> CalendarPlace:
    return CalendarPlace(tmp_path)


@pytest.mark.parametrize("name", [".hidden", "100%", "a/%2F", "%2E", ".a.part-0123456789abcdef"])
def test_any_name_has_one_file_of_its_own(place: CalendarPlace, name: str) -> None:
    """Names with slashes, dots and percent signs neither collide nor hide."""
    place.write("a/b", b"")
    storage = Calendar(place.options(name), place.limits)
    storage.put(name, BytesSource(b"x"), {}, {})
    assert sorted(stored.name for stored in storage.list("")) == sorted([name, "a/b"])
    assert place.leftovers() == []
