"""An upload to a cloud's stand-in that the end of the agent interrupts."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from providers.testing.faultproxy import FaultProxy
from tests.support.agent_process import AgentProcess
from tests.support.backend import LAST_UPLOAD, Backend
from tests.support.clouds import BIG_BYTES, PART_BYTES, add_incompressible, bucket, options
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(params=["aws", "azure"])
def destination(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with bucket(request.param, tmp_path / "store") as made:
        yield made


@pytest.mark.parametrize("end", [AgentProcess.kill, AgentProcess.stop])
def test_an_interrupted_upload_goes_on_with_new_credentials(
    device: AgentProcess, backend: Backend, destination: Any, end: Callable[[AgentProcess], object]
) -> None:
    """kill -9 or SIGTERM in the middle of a staged archive's upload, restart, `start` again: it continues."""
    device.settings["stopTimeout"] = "0s"
    agent = device.start()
    backend.announced()
    add_incompressible(agent.data)
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
