"""The memory of the installed program over several jobs; `make bench` measures it beside public tools."""

from pathlib import Path

import pytest

from providers.testing.streams import content
from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend

LOCAL = {"storage.provider": "local"}
SEAL = {"backup.passcode": "correct horse battery"}
OPEN = {"restore.passcode": "correct horse battery"}
PEAK_BYTES = 96 << 20


@pytest.mark.slow
def test_memory_stays_within_the_budget_and_the_next_job_seals_too(
    agent: AgentProcess, backend: Backend
) -> None:
    (agent.data / "blob").write_bytes(content(64 << 20))
    for number in range(2):
        assert backend.run("backup", f"B{number}", LOCAL | SEAL)["state"] == "BACKUP_FINISHED"
        assert backend.run("restore", f"R{number}", LOCAL | OPEN)["state"] == "RESTORE_FINISHED"
    status = Path(f"/proc/{agent.pid}/status").read_text()
    peak_bytes = next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM:"))
    assert peak_bytes < PEAK_BYTES, f"{peak_bytes / (1 << 20):.0f} MiB"
