"""Commands of the owner when the agent is killed while they run."""

import os
import signal
from typing import Any

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.hooks import ENDLESS, LOOK, endless_pids, lines, script, work_directories
from tests.support.trees import contents
from tests.support.waiting import wait_until

from .conftest import Started

pytestmark = pytest.mark.slow

LOCAL = {"storage.provider": "local", "local.name": "golden.zip"}


def damaged(device: AgentProcess, backend: Backend) -> dict[str, Any]:
    """A golden archive, and a device that has changed since; what is on it now."""
    backend.run("backup", "golden", LOCAL)
    (device.data / "config" / "app.json").write_text("damaged\n")
    (device.data / "start.sh").unlink()
    return contents(device.data)


def test_what_backup_cmd_had_collected_is_gone_after_a_crash(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    started(backupCmd=script(device, "collect.sh", f"echo half > dump; exec {ENDLESS[:9]}"))
    backend.ask("backup", {"correlationID": "X", "options": LOCAL})
    hook = device.wait_for_log("hook started")
    wait_until(lambda: list(device.storage.glob("work-*/dump")), what="the hook to have collected something")
    device.kill()
    os.kill(hook["pid"], 9)
    device.start()
    assert backend.ended("X")["statusCode"] == "interrupted"
    assert work_directories(device) == []


@pytest.mark.parametrize("hanging", ["stop.sh", "start.sh"])
def test_after_a_crash_between_the_two_after_restore_cmd_runs_once(
    device: AgentProcess, started: Started, backend: Backend, hanging: str
) -> None:
    """Whoever was stopped is started again, over the old data; nothing else runs meanwhile."""
    hang_once = f'test -e "$work/pids" || {{ {ENDLESS}; }}'
    bodies = {"stop.sh": LOOK % "before", "start.sh": LOOK % "after"}
    bodies[hanging] = f"{hang_once}\n{bodies[hanging]}"
    stop, start = (script(device, name, body) for name, body in bodies.items())
    started(beforeRestoreCmd=stop, afterRestoreCmd=start)
    damaged(device, backend)
    assert backend.ask("restore", {"correlationID": "Y", "options": LOCAL})["status"] == 204
    pids = endless_pids(device)
    device.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    told = lines(device)
    device.start()
    wait_until(lambda: lines(device) != told, what="afterRestoreCmd")
    assert lines(device) == [*told, "after damaged"]
    ended = backend.ended("Y")
    assert (ended["state"], ended["statusCode"]) == ("RESTORE_FAILED", "interrupted")
    device.stop()
    device.start()
    wait_until(lambda: device.count_log("connected") == 3, what="the agent to be back")
    assert backend.run("backup", "next", LOCAL)["state"] == "BACKUP_FINISHED"
    assert lines(device) == [*told, "after damaged"]


def test_after_a_crash_of_a_backup_its_later_commands_run_once(
    device: AgentProcess, started: Started, backend: Backend
) -> None:
    """Also that of a data set: what was stopped for the backup is started again."""
    after = {name: script(device, f"{name}.sh", f'echo {name} >> "$work/told"') for name in ("set", "all")}
    started(
        afterBackupCmd=after["all"],
        dataSets={
            "app": {
                "paths": str(device.data),
                "beforeBackupCmd": script(device, "hangs.sh", ENDLESS),
                "afterBackupCmd": after["set"],
            }
        },
    )
    backend.ask("backup", {"correlationID": "X", "options": LOCAL | {"backup.dataTypes": "app"}})
    pids = endless_pids(device)
    device.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert lines(device) == []
    device.start()
    assert backend.ended("X")["statusCode"] == "interrupted"
    wait_until(lambda: lines(device) == ["set", "all"], what="the later commands")
    device.stop()
    device.start()
    wait_until(lambda: device.count_log("connected") == 3, what="the agent to be back")
    assert lines(device) == ["set", "all"]
