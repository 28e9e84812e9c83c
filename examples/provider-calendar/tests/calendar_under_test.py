"""What the contract suite of edge-backup has to know of this provider. To run it:

export EDGE_BACKUP_UNDER_TEST=calendar_under_test:CalendarUnderTest PYTHONPATH=tests
pytest --pyargs providers.testing
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from edge_backup_calendar import Calendar

from providers.api import Limits, StorageFactory, Target


class CalendarUnderTest:
    """A `providers.testing.under_test.ProviderUnderTest`: looks at the directory without the provider."""

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
