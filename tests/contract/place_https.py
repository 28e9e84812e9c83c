"""The generic provider: nginx over https, with a password, a header and a query that are secret.

nginx removes the temporary file of an upload that was cut off by itself, so there are no leftovers.
"""

import base64
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from providers.api import Limits, StorageFactory
from providers.https import Https
from tests.support.nginx import PASSWORD, USER, Nginx, nginx

_AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class NginxPlace:
    factory: StorageFactory = Https
    networked = True
    secrets: Sequence[str] = ("sig-in-the-query", "key-in-a-header", PASSWORD, _AUTHORIZATION)

    def __init__(self, server: Nginx, number: int) -> None:
        self._directory = server.root / "private" / str(number)
        self._url = f"{server.https_url}/private/{number}/".replace("://", f"://{USER}:{PASSWORD}@")
        self.limits = Limits(ca_file=server.ca_file)

    def options(self, name: str) -> dict[str, str]:
        return {
            "https.url": f"{self._url}{quote(name)}?signature=sig-in-the-query",
            "https.header.X-Key": "key-in-a-header",
        }

    def bad_options(self) -> Sequence[tuple[Mapping[str, str], set[str]]]:
        return [
            ({}, {"https.url"}),
            ({"https.url": "ftp://sig-in-the-query@host/"}, {"https.url"}),
            ({"https.url": self._url, "https.method": "sig-in-the-query"}, {"https.method"}),
            ({"https.url": self._url, "https.header.A": "key-in-a-header\r\nB: c"}, {"https.header.A"}),
            (
                {"https.url": "http://", "https.mehtod": "PUT", "https.header.Host": "h"},
                {"https.url", "https.mehtod", "https.header.Host"},
            ),
        ]

    def denied_options(self, name: str) -> dict[str, str] | None:
        return {**self.options(name), "https.header.Authorization": "Basic d3Jvbmc6d3Jvbmc="}

    def write(self, name: str, data: bytes) -> None:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, name: str) -> bytes | None:
        path = self._directory / name
        return path.read_bytes() if path.is_file() else None

    def names(self) -> list[str]:
        paths = (path for path in self._directory.rglob("*") if path.is_file())
        return sorted(str(path.relative_to(self._directory)) for path in paths)

    def leftovers(self) -> list[str]:
        return []


@contextmanager
def serve(work: Path) -> Iterator[Callable[[], NginxPlace]]:
    numbers = itertools.count()
    with nginx(work) as server:
        yield lambda: NginxPlace(server, next(numbers))


PLACES = {"generic-nginx": serve}
