"""The local provider: a directory."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from providers.api import Capability, Limits, Storage, StorageFactory, Target
from providers.local import Local
from providers.prefix import opened


class LocalPlace:
    factory: StorageFactory = Local
    networked = False
    secrets: Sequence[str] = ()

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.limits = Limits(targets={"device": Target(directory)})

    def options(self, name: str) -> dict[str, str]:
        return {"local.target": "device", "local.name": name}

    def bad_options(self) -> Sequence[tuple[Mapping[str, str], set[str]]]:
        return [
            ({"local.target": "attic"}, {"local.target"}),
            ({"local.name": "../etc/passwd"}, {"local.name"}),
            (
                {"local.target": "attic", "local.nmae": "x", "local.name": "/x"},
                {"local.target", "local.nmae", "local.name"},
            ),
        ]

    def denied_options(self, name: str) -> dict[str, str] | None:
        return None

    def write(self, name: str, data: bytes) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, name: str) -> bytes | None:
        path = self.directory / name
        return path.read_bytes() if path.is_file() else None

    def names(self) -> list[str]:
        return sorted(name for name in self._all() if not Path(name).name.startswith("."))

    def leftovers(self) -> list[str]:
        """Temporary files, and directories with nothing in them."""
        empty = [str(path) for path in self.directory.rglob("*") if path.is_dir() and not any(path.iterdir())]
        return [name for name in self._all() if Path(name).name.startswith(".")] + empty

    def _all(self) -> list[str]:
        return [str(path.relative_to(self.directory)) for path in self.directory.rglob("*") if path.is_file()]


@contextmanager
def serve(work: Path) -> Iterator[Callable[[], LocalPlace]]:
    numbers = itertools.count()
    yield lambda: LocalPlace(work / f"place-{next(numbers)}")


class _LocalBelow:
    """The local provider below a prefix, as the agent opens it."""

    kind = Local.kind
    needs_size = Local.needs_size
    capabilities: frozenset[Capability] = Local.capabilities
    name_option = Local.name_option

    def __call__(self, options: Mapping[str, str], limits: Limits, /) -> Storage:
        return opened(Local, {**options, "local.directory": "sites/one"}, limits)


class LocalBelowPlace(LocalPlace):
    factory: StorageFactory = _LocalBelow()

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (directory / "beside.zip").write_bytes(b"not below the prefix")
        self.directory = directory / "sites" / "one"
        self.directory.mkdir(parents=True)


@contextmanager
def serve_below(work: Path) -> Iterator[Callable[[], LocalPlace]]:
    numbers = itertools.count()
    yield lambda: LocalBelowPlace(work / f"below-{next(numbers)}")


PLACES = {"local": serve, "local-below": serve_below}
