"""Whole jobs with the clouds' stand-ins: over the wire, through the installed agent, with real faults."""

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.testing.faultproxy import FaultProxy
from tests.contract import place_aws, place_azure
from tests.contract.local_targets import small_disk
from tests.support.agent_process import AgentProcess
from tests.support.backend import LAST_UPLOAD, Backend
from tests.support.http_server import HttpServer, Say
from tests.support.trees import differences
from tests.support.waiting import wait_until

from .conftest import contents

BIG_BYTES = 40 << 20
PART_BYTES = 8 << 20


@pytest.fixture(params=["aws", "azure"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A new bucket or container behind a fault proxy, which counts what is sent."""
    serve = {"aws": place_aws.serve_rclone, "azure": place_azure.serve}[request.param]
    with serve(tmp_path / "store") as make:
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


def add_incompressible(agent: AgentProcess, size_bytes: int = BIG_BYTES) -> None:
    (agent.data / "blob.bin").write_bytes(random.Random(5).randbytes(size_bytes))


def test_a_backup_streams_there_and_the_newest_comes_back(
    agent: AgentProcess, backend: Backend, destination: Any
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


def test_a_cut_upload_goes_on_where_it_was(agent: AgentProcess, backend: Backend, destination: Any) -> None:
    """A reset in the middle: tried again, and no more than one part is sent twice."""
    add_incompressible(agent)
    with FaultProxy(("127.0.0.1", destination.server.port)) as proxy:
        proxy.reset_after["up"] = BIG_BYTES * 7 // 10
        answer = backend.ask("backup", {"correlationID": "X", "options": options(destination, proxy)})
        assert answer["status"] == 204
        agent.wait_for_log("transfer failed, trying again")
        proxy.reset_after.clear()
        assert backend.ended("X")["state"] == "BACKUP_FINISHED"
        sent = proxy.passed["up"]
    assert sent < BIG_BYTES + PART_BYTES + (4 << 20), f"{sent:,} bytes were sent of {BIG_BYTES:,}"


@pytest.mark.parametrize("end", [AgentProcess.kill, AgentProcess.stop])
def test_an_interrupted_upload_goes_on_with_new_credentials(
    device: AgentProcess, backend: Backend, destination: Any, end: Callable[[AgentProcess], object]
) -> None:
    """kill -9 or SIGTERM in the middle of a staged archive's upload, restart, `start` again: it continues."""
    device.settings["stopTimeout"] = "0s"
    agent = device.start()
    backend.announced()
    add_incompressible(agent)
    backend.run("backup", "X", {})
    backend.requested("X#1")
    with FaultProxy(("127.0.0.1", destination.server.port)) as proxy:
        proxy.rate_bytes_per_s = 40e6
        start = {"correlationID": "X#1", "options": options(destination, proxy)}
        assert backend.ask("start", start)["status"] == 204
        wait_until(lambda: proxy.passed["up"] > BIG_BYTES * 6 // 10, what="most of the archive to be sent")
        end(agent)
        before = proxy.passed["up"]
        agent.start()
        assert backend.ended("X", LAST_UPLOAD)["statusCode"] == "interrupted"
        backend.messages.clear()
        assert backend.ask("start", start)["status"] == 204
        assert backend.ended("X", LAST_UPLOAD)["state"] == "SUCCESS"
        again = proxy.passed["up"] - before
    assert again < BIG_BYTES * 4 // 10 + PART_BYTES + (4 << 20), f"{again:,} bytes were sent again"
    assert destination.leftovers() == []


def test_a_cancelled_backup_leaves_nothing_that_is_visible_or_costs_money(
    agent: AgentProcess, backend: Backend, destination: Any
) -> None:
    """Within a second for the backend; the far side is tidied up in the background."""
    add_incompressible(agent)
    with FaultProxy(("127.0.0.1", destination.server.port)) as proxy:
        proxy.rate_bytes_per_s = 15e6
        backend.ask("backup", {"correlationID": "X", "options": options(destination, proxy)})
        wait_until(lambda: proxy.passed["up"] > PART_BYTES + (2 << 20), what="the second part")
        began_s = time.monotonic()
        assert backend.ask("cancel", {"correlationID": "X"})["status"] == 204
        assert backend.ended("X")["statusCode"] == "cancelled"
        assert time.monotonic() - began_s < 1.5
        wait_until(lambda: not destination.leftovers(), what="the far side to be tidied up")
    assert destination.names() == []


def test_wrong_credentials_fail_at_once(agent: AgentProcess, backend: Backend, destination: Any) -> None:
    """No retry storm, and a code that says whose fault it is."""
    denied = options(destination) | {
        key: value
        for key, value in (destination.denied_options("x") or {}).items()
        if not key.endswith(".name")
    }
    denied.pop("aws.object.key", None)
    ended = backend.run("backup", "X", denied)
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "access-denied")
    assert agent.count_log("transfer failed, trying again") == 0


def test_an_unknown_authority_is_unreachable_and_says_so(
    device: AgentProcess, backend: Backend, tmp_path: Path
) -> None:
    """TLS is verified, whatever the machine's environment says."""
    import ssl

    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    device.settings |= {"transfer.attempts": 1}
    device.start()
    backend.announced()
    with HttpServer(lambda _request: Say(), tls=context) as server:
        ended = backend.run("backup", "X", {"https.url": f"{server.url}/x?token=hidden"})
    assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "unreachable")
    assert "certificate" in ended["message"]
    assert "hidden" not in ended["message"]


def test_a_full_disk_under_staging_is_no_space_and_leaves_nothing(
    device: AgentProcess, backend: Backend, tmp_path: Path
) -> None:
    """The archive does not fit; the job says so, the agent goes on."""
    add_incompressible(device, 3 << 20)
    with small_disk(tmp_path / "disk") as disk:
        device.settings["storage"] = str(disk)
        device.start()
        backend.announced()
        ended = backend.run("backup", "X", {})
        assert (ended["state"], ended["statusCode"]) == ("BACKUP_FAILED", "no-space")
        assert list((disk / "backups").iterdir()) == []
        assert backend.ask("nothing")["status"] == 400
        device.kill()


def test_the_rate_limit_holds(device: AgentProcess, backend: Backend) -> None:
    """`transfer.rateLimit`: 2 MB in at least a second and a half, with 1 MB a second."""
    device.settings |= {"transfer.rateLimit": 1_000_000, "archive.level": "store"}
    add_incompressible(device, 2_000_000)
    device.start()
    backend.announced()
    began_s = time.monotonic()
    assert backend.run("backup", "X", {"storage.provider": "local"})["state"] == "BACKUP_FINISHED"
    assert time.monotonic() - began_s > 1.5
