"""`cancel` ends every phase of a job within a second, with 400,000 entries, and is answered at once.

Measured with the installed program, over a broker, as the processor time of the agent: a busy machine makes
the clock on the wall go on without it.
"""

import os
import signal
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.formats.archive_names import archive_name, device_tag
from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import DEVICE, Backend
from tests.support.mosquitto import mosquitto
from tests.support.require import possible, require
from tests.support.unmounting import unmount
from tests.support.waiting import wait_until

ENTRIES, ROOTS, DEPTH = 400_000, 20, 200
MANY = ENTRIES // 4
DEEP = "deep" + "/d" * DEPTH
SETS = [f"set{number:02}" for number in range(ROOTS)]
DIRECTORIES = [*(f"{name}/data" for name in SETS), DEEP]
PATIENCE_S = 1.0
LONG_S = 200.0
"""For all that a busy machine takes its time for."""
LOCAL = {"storage.provider": "local"}


def names() -> Iterator[str]:
    """Half of them in many roots, half in one deep directory."""
    for number in range(ENTRIES // 2):
        yield f"{DIRECTORIES[number % ROOTS]}/f{number:06}"
        yield f"{DEEP}/f{number:06}"


@contextmanager
def memory_disk(path: Path) -> Iterator[Path]:
    """A file system in memory: what it holds goes at once."""
    require(os.geteuid() == 0, "root, to mount")
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "nr_inodes=3m", "none", path], check=False, capture_output=True
    )
    possible(mounted.returncode == 0, "mount a tmpfs")
    try:
        yield path
    finally:
        unmount(path)


def make_files(root: Path) -> None:
    opened = {}
    for directory in DIRECTORIES:
        (root / directory).mkdir(parents=True)
        opened[directory] = os.open(root / directory, os.O_PATH)
    for name in names():
        directory, _, file = name.rpartition("/")
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=opened[directory]))
    for descriptor in opened.values():
        os.close(descriptor)


def make_archive(path: Path, content: Iterator[str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in content:
            archive.writestr(zipfile.ZipInfo(name), b"")


def cpu_s(pid: int) -> float:
    """The processor time of a process so far; proc(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Large:
    """A device with as many files, archives and entries in an archive."""

    agent: AgentProcess
    backend: Backend

    def cpu_s(self) -> float:
        """The processor time of the agent so far."""
        return cpu_s(self.agent.pid)

    def worked(self, more_s: float) -> None:
        """Wait until the agent has worked for so long."""
        until_s = self.cpu_s() + more_s
        wait_until(lambda: self.cpu_s() >= until_s, what="work", timeout_s=LONG_S)

    def unpacks(self) -> None:
        """Wait until it is in the middle of unpacking."""
        wait_until(lambda: any(self.agent.data.glob(".edge-backup-*/new/*")), what="files", timeout_s=LONG_S)
        self.worked(1)

    def commits(self) -> None:
        """Wait until a commit has put many files aside; a name takes 20 bytes in a directory of a tmpfs."""

        def many() -> bool:
            return any(
                undo.stat().st_size > 20 * MANY for undo in self.agent.data.glob(".edge-backup-*/undo")
            )

        wait_until(many, what="files", timeout_s=LONG_S)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Large]:
    work = tmp_path_factory.mktemp("large")
    with memory_disk(work / "disk") as disk, mosquitto(work / "mosquitto") as broker:
        agent = AgentProcess(
            disk / "device",
            broker.port,
            targets={"device": {"path": str(disk / "archives")}, "many": {"path": str(disk / "many")}},
            dataSets={name: {"paths": str(disk / "device/data" / name / "data")} for name in SETS},
        )
        make_files(agent.data)
        for name in ("archives", "many"):
            (disk / name).mkdir()
        for number in range(ENTRIES // 4):
            when = datetime.fromtimestamp(1_770_000_000 + number, UTC)
            (disk / "many" / archive_name(when, device_tag(DEVICE))).touch()
        # As the agent names what is in data sets.
        made = (f"{name.partition('/')[0]}{agent.data}/{name}" for name in names())
        make_archive(disk / "archives/all.zip", made)
        make_archive(disk / "archives/few.zip", (f"{directory}/new" for directory in DIRECTORIES))
        with Backend(broker.port) as backend, agent:
            backend.announced()
            yield Large(agent, backend)


@dataclass(frozen=True)
class Phase:
    """A job, and the moment in it."""

    kind: str
    name: str
    options: dict[str, str] = field(default_factory=dict)
    reached: Callable[[Large], object] = lambda large: large.worked(0.3)
    ended: str = "failed"
    """The end in the log."""


ALL, FEW = {"local.name": "all.zip"}, {"local.name": "few.zip", "restore.mode": "exact"}
PHASES = {
    "comparing with the last archive": Phase("backup", "comparing", {"backup.skipUnchanged": "true"}),
    "archiving": Phase("backup", "archiving"),
    "surveying": Phase("restore", "unpacking", ALL),
    "surveying for many roots": Phase("restore", "unpacking", ALL | {"restore.dataTypes": ",".join(SETS)}),
    "unpacking": Phase("restore", "unpacking", ALL, Large.unpacks),
    "comparing with the target": Phase(
        "restore", "comparing", FEW | {"restore.preview": "true"}, ended="worker ended"
    ),
    "planning": Phase("restore", "committing", FEW),
    "committing": Phase("restore", "committing", FEW, Large.commits),
    "finding": Phase("restore", "", {"local.target": "many"}, lambda large: large.worked(0.2)),
    "checking": Phase("verify", "checking", ALL, lambda large: large.worked(0.5)),
    "checking contents": Phase("verify", "checking", ALL, lambda large: large.worked(6)),
}


def begin(backend: Backend, kind: str, value: Mapping[str, object]) -> dict[str, Any]:
    """The answer to a command, when the recovery of an earlier restore has ended."""
    answers: list[dict[str, Any]] = []

    def is_recovered() -> bool:
        answers.append(backend.ask(kind, value))
        return bool(answers[-1]["status"] != 409)

    wait_until(is_recovered, what="the recovery to end", timeout_s=LONG_S)
    return answers[-1]


@pytest.mark.large
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", PHASES)
def test_a_cancel_ends_every_phase_within_a_second(large: Large, name: str) -> None:
    phase, agent, backend = PHASES[name], large.agent, large.backend
    value = {"correlationId": name, "options": LOCAL | phase.options}
    began = begin(backend, phase.kind, value)
    assert began["status"] == 204, began
    agent.wait_for_log(f"{phase.kind} started", correlation_id=name)
    if phase.name:
        agent.wait_for_log("phase entered", phase=phase.name, correlation_id=name)
    phase.reached(large)
    before_s = large.cpu_s()
    assert backend.ask("cancel", {"correlationId": name})["status"] == 204
    answered_s = large.cpu_s() - before_s
    ended = agent.wait_for_log(f"{phase.kind} {phase.ended}", correlation_id=name)
    ended_s = large.cpu_s() - before_s
    print(f"{name}: answered after {answered_s:.2f} s, ended after {ended_s:.2f} s")
    assert ended.get("code", "cancelled") == "cancelled"
    assert answered_s < PATIENCE_S / 2
    assert ended_s < PATIENCE_S


@pytest.mark.large
@pytest.mark.timeout(600)
def test_ctrl_c_ends_the_listing_of_an_archive_within_a_second(large: Large) -> None:
    options = [f"-o{key}={value}" for key, value in (LOCAL | ALL).items()]
    config = str(large.agent.work / "config.json")
    command = [str(PROGRAM), "inspect", "--files", *options, "--config", config]
    inspecting = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=large.agent.environment)
    wait_until(lambda: cpu_s(inspecting.pid) > 1, what="the listing", timeout_s=LONG_S)
    assert inspecting.poll() is None
    before_s = cpu_s(inspecting.pid)
    inspecting.send_signal(signal.SIGINT)
    _, status, usage = os.wait4(inspecting.pid, 0)
    inspecting.returncode = os.waitstatus_to_exitcode(status)
    assert usage.ru_utime + usage.ru_stime - before_s < PATIENCE_S
    assert inspecting.returncode != 0
