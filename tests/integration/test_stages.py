"""Previews and trials of the installed program, over a real broker, and with its end in the middle."""

import time
from collections.abc import Iterator

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.trees import contents, differences
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local", "local.name": "it.zip"}
TRIAL = LOCAL | {"restore.confirmWithin": "5m"}


@pytest.fixture
def saved(agent: AgentProcess, backend: Backend) -> Iterator[AgentProcess]:
    """A device that was backed up, and has changed since."""
    assert backend.run("backup", "saved", LOCAL)["state"] == "BACKUP_FINISHED"
    (agent.data / "start.sh").write_text("#!/bin/sh\nexit 1\n")
    backend.messages.clear()
    yield agent
    assert not list(agent.data.glob(".edge-backup-*"))


def on_trial(backend: Backend) -> None:
    """Wait until the restore is in place and waits."""

    def look() -> bool:
        job = backend.ask("status")["value"]["job"]
        return bool(job and job["phase"] == "trial")

    wait_until(look, what="the trial")


def started_again(agent: AgentProcess, backend: Backend) -> None:
    backend.messages.clear()
    agent.start()
    backend.announced()


def test_a_trial_goes_on_after_a_kill_and_is_confirmed_then(saved: AgentProcess, backend: Backend) -> None:
    assert backend.ask("restore", {"correlationId": "T", "options": TRIAL})["status"] == 204
    on_trial(backend)
    saved.kill()
    started_again(saved, backend)
    on_trial(backend)
    assert backend.ask("confirm", {"correlationId": "T"})["status"] == 204
    assert backend.ended("T")["state"] == "RESTORE_FINISHED"
    assert (saved.data / "start.sh").read_text().endswith("exec ./app\n")


def test_a_stop_does_not_wait_for_a_trial_and_a_cancel_after_it_takes_it_back(
    saved: AgentProcess, backend: Backend
) -> None:
    before = contents(saved.data)
    assert backend.ask("restore", {"correlationId": "T", "options": TRIAL})["status"] == 204
    on_trial(backend)
    begun_s = time.monotonic()
    assert saved.stop() == 0
    assert time.monotonic() - begun_s < 10  # the setting stopTimeout is 30 s
    assert (saved.data / "start.sh").read_text().endswith("exec ./app\n")
    started_again(saved, backend)
    on_trial(backend)
    assert backend.ask("cancel", {"correlationId": "T"})["status"] == 204
    end = backend.ended("T")
    assert (end["state"], end["statusCode"]) == ("RESTORE_FAILED", "cancelled")
    assert differences(before, contents(saved.data)) == []
