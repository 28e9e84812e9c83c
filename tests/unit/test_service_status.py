"""The line for `systemctl status`, on a real datagram socket; tests/integration has the whole agent."""

import socket
from pathlib import Path

import pytest

from agent.faces.service_status import ServiceStatus
from agent.mailbox import Mailbox


@pytest.mark.parametrize(("saved", "shown"), [(900, ", 90 %"), (1000, ", 99 %"), (1300, "")])
def test_a_job_that_saves_more_than_was_expected_has_no_percentage(
    saved: int, shown: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would stand at 99 % for as long as the directory grows."""
    job = {"kind": "backup", "correlationId": "X", "phase": "archiving", "bytes": saved, "totalBytes": 1000}
    percent = min(99, saved // 10)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        status = ServiceStatus(
            Mailbox(), job=lambda: {**job, "percent": percent}, uploading=lambda: False, next_run=lambda: None
        )
        status.connection("connected")
        assert manager.recv(200).decode() == f"STATUS=backup X: archiving{shown}; connected"
