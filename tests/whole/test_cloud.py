"""Whole jobs with the clouds' stand-ins: over the wire, through the installed agent, with real faults."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.testing.faultproxy import FaultProxy
from tests.support.clouds import BIG_BYTES, PART_BYTES, add_incompressible, bucket, options
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.trees import contents, differences
from tests.support.waiting import wait_until


@pytest.fixture(params=["aws", "azure"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with bucket(request.param, tmp_path / "store") as made:
        yield made


def test_a_backup_streams_there_and_the_newest_comes_back(
    agent: LocalAgent, backend: LocalBackend, destination: Any
) -> None:
    """No copy on the device's disk, named by time and device; restored without saying which."""
    before = contents(agent.data)
    assert backend.run("backup", "X", options(destination))["state"] == "BACKUP_FINISHED"
    (name,) = destination.names()
    assert name.startswith("backup-")
    assert name.endswith(".zip")
    (agent.data / "start.sh").unlink()
    assert backend.run("restore", "Y", options(destination))["state"] == "RESTORE_FINISHED"
    assert differences(before, contents(agent.data)) == []
    assert not list((agent.storage / "backups").iterdir())


def test_a_cut_upload_goes_on_where_it_was(
    agent: LocalAgent, backend: LocalBackend, destination: Any
) -> None:
    """A reset in the middle: tried again, and no more than one part is sent twice."""
    add_incompressible(agent.data)
    with FaultProxy(("127.0.0.1", destination.server.port)) as proxy:
        proxy.reset_after["up"] = BIG_BYTES * 7 // 10
        answer = backend.ask("backup", {"correlationID": "X", "options": options(destination, proxy)})
        assert answer["status"] == 204
        agent.wait_for_log("transfer failed, trying again")
        proxy.reset_after.clear()
        assert backend.ended("X")["state"] == "BACKUP_FINISHED"
        sent = proxy.passed["up"]
    assert sent < BIG_BYTES + PART_BYTES + (4 << 20), f"{sent:,} bytes were sent of {BIG_BYTES:,}"


def test_a_cancelled_backup_leaves_nothing_that_is_visible_or_costs_money(
    agent: LocalAgent, backend: LocalBackend, destination: Any
) -> None:
    """Within a second for the backend; the far side is tidied up in the background."""
    add_incompressible(agent.data)
    with FaultProxy(("127.0.0.1", destination.server.port)) as proxy:
        proxy.rate_bytes_per_s = 15e6
        backend.ask("backup", {"correlationID": "X", "options": options(destination, proxy)})
        wait_until(lambda: proxy.passed["up"] > PART_BYTES + (2 << 20), what="the second part")
        began_s = time.monotonic()
        assert backend.ask("cancel", {"correlationID": "X"})["status"] == 204
        assert backend.ended("X")["statusCode"] == "cancelled"
        assert time.monotonic() - began_s < 10
        wait_until(lambda: not destination.leftovers(), what="the far side to be tidied up")
    assert destination.names() == []


def test_the_rate_limit_holds(device: LocalAgent, backend: LocalBackend) -> None:
    """`transfer.rateLimit`: half a megabyte takes at least a third of a second, with 1 MB a second."""
    device.settings |= {"transfer.rateLimit": 1_000_000, "archive.level": "store"}
    add_incompressible(device.data, 500_000)
    device.start()
    backend.announced()
    began_s = time.monotonic()
    assert backend.run("backup", "X", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    assert time.monotonic() - began_s > 0.33
