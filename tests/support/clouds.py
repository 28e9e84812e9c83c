"""The clouds' stand-ins as places of a backup, with faults on the way there."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from providers.testing.faultproxy import FaultProxy
from tests.contract import place_aws, place_azure

BIG_BYTES = 40 << 20
PART_BYTES = 8 << 20


@contextmanager
def bucket(provider: str, work: Path) -> Iterator[Any]:
    """A new bucket or container."""
    serve = {"aws": place_aws.serve_rclone, "azure": place_azure.serve}[provider]
    with serve(work) as make:
        yield make()


def options(destination: Any, proxy: FaultProxy | None = None) -> dict[str, str]:
    """The options of a command: the name of the object is left to the agent."""
    chosen = dict(destination.options("unused"))
    for key in ("aws.object.key", "azure.blob.name"):
        chosen.pop(key, None)
    if proxy:
        for key in ("aws.endpoint.url", "azure.storage.endpoint"):
            if key in chosen:
                here = f"127.0.0.1:{destination.server.port}"
                chosen[key] = chosen[key].replace(here, f"127.0.0.1:{proxy.address[1]}")
    provider = "aws" if "aws.s3.bucket" in chosen else "azure"
    return {"storage.provider": provider, **chosen}


def add_incompressible(data: Path, size_bytes: int = BIG_BYTES) -> None:
    (data / "blob.bin").write_bytes(random.Random(5).randbytes(size_bytes))
