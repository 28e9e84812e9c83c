"""A REST server that keeps a repository: rclone, append-only as a device should meet it."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from providers.api import Limits, StorageFactory
from providers.rest import RestServer
from tests.support import stores


class RestPlace:
    """A new repository below the server's directory, seen as files."""

    factory: StorageFactory = RestServer
    networked = True

    def __init__(self, server: stores.Server, directory: Path) -> None:
        self.server, self.directory = server, directory
        self.limits = Limits()
        self.secrets: Sequence[str] = (server.secret,)

    def url(self, password: str) -> str:
        user = f"//{self.server.user}:{password}@"
        return f"{self.server.url}/{self.directory.name}/".replace("//", user, 1)

    def options(self, _name: str) -> dict[str, str]:
        return {"https.url": self.url(self.server.secret)}

    def bad_options(self) -> Sequence[tuple[Mapping[str, str], set[str]]]:
        url = self.options("")["https.url"]
        return [
            ({}, {"https.url"}),
            ({"https.url": url.rstrip("/")}, {"https.url"}),
            ({"https.url": f"{url}?sig=rest-secret-0123456789/"}, {"https.url"}),
            ({"https.url": url, "https.method": "PUT"}, {"https.method"}),
        ]

    def denied_options(self, _name: str) -> dict[str, str] | None:
        return {"https.url": self.url("wrong")}

    def write(self, name: str, data: bytes) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, name: str) -> bytes | None:
        path = self.directory / name
        return path.read_bytes() if path.is_file() else None

    def names(self) -> list[str]:
        paths = (path for path in self.directory.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self.directory)) for path in paths)

    def leftovers(self) -> list[str]:
        return []


@contextmanager
def serve(work: Path) -> Iterator[Callable[[], RestPlace]]:
    numbers = itertools.count()
    with stores.rclone_rest(work) as server:
        yield lambda: RestPlace(server, work / f"repository-{next(numbers)}")


PLACES = {"rest-rclone": serve}
