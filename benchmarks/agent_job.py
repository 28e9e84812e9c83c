"""The installed agent at work: commands over MQTT, measured from the command to its last message."""

import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from agent.demo.servers import mqtt_broker
from benchmarks.measure import Usage, warm
from tests.support.agent_process import AgentProcess
from tests.support.backend import LAST_OPERATION, LAST_UPLOAD, Backend
from tests.support.mosquitto import mosquitto

ARCHIVE = "archive.zip"
"""The name of the archive of a benchmark's jobs, where the place lets them choose."""
_LONGEST_JOB_S = 1800


class JobFailed(Exception):
    """A job of the agent that was to be measured did not end well."""


@contextmanager
def scratch(work: Path) -> Iterator[Path]:
    """A new directory in `work`, gone at the end."""
    with tempfile.TemporaryDirectory(dir=work) as directory:
        yield Path(directory)


@contextmanager
def broker(work: Path) -> Iterator[int]:
    """The port of a broker on loopback: mosquitto, or the demo's own where that is not installed."""
    if shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin"):
        with mosquitto(work / "mosquitto") as running:
            yield running.port
    else:
        with mqtt_broker() as (_, port):
            yield port


@contextmanager
def agent(work: Path, broker_port: int, settings: Mapping[str, Any]) -> Iterator["MeasuredAgent"]:
    """A new `edge-backup run` that keeps everything in `work`, announced on entry and stopped at the end.

    Raises `JobFailed`, with the last words of the agent, when it does not come up.
    """
    process = AgentProcess(work, broker_port, mode="lax", logLevel="DEBUG", **settings)
    with Backend(broker_port) as backend, process:
        try:
            backend.announced()
        except AssertionError as error:
            raise JobFailed(f"the agent did not come up:\n{process.stderr.read_text()[-2000:]}") from error
        yield MeasuredAgent(process, backend)
        process.stop()


@contextmanager
def repository_agent(
    work: Path,
    broker_port: int,
    store: Mapping[str, Any] = MappingProxyType({"provider": "local"}),
    secrets: Mapping[str, str] = MappingProxyType({}),
) -> Iterator["MeasuredAgent"]:
    """Return as `agent` one that keeps everything in `work`, with a repository as its store `bench`."""
    credentials = work / "credentials.json"
    credentials.write_text(json.dumps({"password": "the corpora are no secret", **secrets}))
    credentials.chmod(0o600)
    stores = {"bench": {"format": "repository", "credentials": str(credentials), **store}}
    with agent(work / "agent", broker_port, {"stores": stores}) as measured:
        yield measured


class MeasuredAgent:
    """One agent process. The peak of memory that comes with a job is that of its whole life so far."""

    def __init__(self, process: AgentProcess, backend: Backend) -> None:
        self.process, self._backend = process, backend

    @property
    def own_archives(self) -> Path:
        """Where the agent's `local` provider keeps its archives."""
        return self.process.storage / "archives"

    def backup(self, directory: Path, options: Mapping[str, str]) -> Usage:
        """From the command to BACKUP_FINISHED: stored or, without a place in `options`, staged."""
        return self._operation("backup", _new_id(), {"backup.dir": str(directory), **options})

    def restore(self, directory: Path, options: Mapping[str, str]) -> Usage:
        """From the command to RESTORE_FINISHED: everything is in `directory`, and on the disk."""
        return self._operation("restore", _new_id(), {"backup.dir": str(directory), **options})

    def verify(self, options: Mapping[str, str]) -> Usage:
        """From the start of a verification to its end, by the agent's log: the twin has no message for it."""
        os.sync()
        cpu_before_s, correlation_id = self._cpu_s(), _new_id()
        self.begin("verify", {"correlationId": correlation_id, "options": dict(options)})
        ended = self.process.wait_for_log("verify finished", correlation_id=correlation_id)
        started = self.process.wait_for_log("verify started", correlation_id=correlation_id)
        wall = datetime.fromisoformat(ended["time"]) - datetime.fromisoformat(started["time"])
        return Usage(wall.total_seconds(), self._cpu_s() - cpu_before_s, self._peak_bytes())

    def asked(self, operation: str, options: Mapping[str, str]) -> int:
        """Ask a question; return the peak of memory of the agent's whole life so far."""
        answer = self._backend.ask(operation, {"options": dict(options)})
        if answer["status"] != 200:
            raise JobFailed(f"{operation}: {answer['value']}")
        return self._peak_bytes()

    def upload(self, directory: Path, options: Mapping[str, str]) -> Usage:
        """Stage an archive of `directory`; then measure from the command `start` to SUCCESS."""
        parent = _new_id()
        self._operation("backup", parent, {"backup.dir": str(directory)})
        warm(self.process.storage)
        start = {"correlationId": f"{parent}#1", "options": dict(options)}
        return self._measured("start", start, parent, LAST_UPLOAD, "SUCCESS")

    def begin(self, operation: str, value: Mapping[str, Any]) -> None:
        """Send a command and return when it is accepted. Raises `JobFailed` otherwise."""
        answer = self._backend.ask(operation, dict(value))
        if answer["status"] != 204:
            raise JobFailed(f"{operation}: {answer['value']}")

    def ended(self, correlation_id: str) -> bool:
        """Return True when the job of `begin` has ended. Raises `JobFailed` when it did not end well."""
        values = [value for value in self._backend.values() if value["correlationId"] == correlation_id]
        if values and values[-1]["state"].endswith("_FAILED"):
            raise JobFailed(str(values[-1]))
        return bool(values) and values[-1]["state"].endswith("_FINISHED")

    def _operation(self, operation: str, correlation_id: str, options: Mapping[str, str]) -> Usage:
        value = {"correlationId": correlation_id, "options": dict(options)}
        good_end = f"{operation.upper()}_FINISHED"
        return self._measured(operation, value, correlation_id, LAST_OPERATION, good_end)

    def _measured(
        self, operation: str, value: Mapping[str, Any], ends_as: str, told_in: str, good_end: str
    ) -> Usage:
        """Send the command; wait until the property `told_in` tells the end of `ends_as`."""
        os.sync()  # what earlier work has still to write is not this job's
        cpu_before_s = self._cpu_s()
        started_s = time.monotonic()
        header = self._backend.send(operation, dict(value))
        answer = self._backend.answer(header)
        if answer["status"] != 204:
            raise JobFailed(f"{operation}: {answer['value']}")
        end = self._backend.ended(ends_as, told_in, _LONGEST_JOB_S)
        wall_s = time.monotonic() - started_s
        if end["state"] != good_end:
            raise JobFailed(f"{operation}: {end}")
        return Usage(wall_s, self._cpu_s() - cpu_before_s, self._peak_bytes())

    def last_phase_s(self, phase: str, next_phase: str) -> float:
        """How long the last job was in `phase`, by the agent's log."""
        started = ended = None
        for line in self.process.log_lines():
            if line.get("phase") == phase:
                started = datetime.fromisoformat(line["time"])
            elif line.get("phase") == next_phase:
                ended = datetime.fromisoformat(line["time"])
        if started is None or ended is None:
            raise JobFailed(f"the agent's log does not tell the phases {phase} and {next_phase}")
        return (ended - started).total_seconds()

    def _cpu_s(self) -> float:
        # proc(5): after the name, which may hold spaces, utime and stime are the 12th and 13th field.
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _peak_bytes(self) -> int:
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def _new_id() -> str:
    return secrets.token_hex(8)
