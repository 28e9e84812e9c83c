"""The installed program, as a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until

PROGRAM = Path(sys.executable).with_name("edge-backup")


def environment() -> dict[str, str]:
    """That of a program that is started for a test."""
    unwanted = ("PROXY", "PYTHONDONTWRITEBYTECODE")  # the latter costs a second at every start
    return {
        key: value for key, value in os.environ.items() if not any(word in key.upper() for word in unwanted)
    }


def with_constants(*assignments: str) -> tuple[str, ...]:
    """The program with other constants, as a prefix of `start`: `agent.mailbox.LIMIT_S = 1` and the like."""
    modules = {each.partition("=")[0].strip().rpartition(".")[0] for each in assignments}
    lines = ["import sys", "from agent.cli import main", *(f"import {module}" for module in sorted(modules))]
    return sys.executable, "-c", "\n".join([*lines, *assignments, "sys.exit(main(sys.argv[2:]))"])


class Logging:
    """An agent whose log is read while it runs."""

    def log_lines(self) -> list[dict[str, Any]]:
        """Return the lines that it has logged so far."""
        raise NotImplementedError

    def count_log(self, event: str, **facts: Any) -> int:
        wanted = {"event": event, **facts}.items()
        return sum(wanted <= line.items() for line in self.log_lines())

    def wait_for_log(self, event: str, **facts: Any) -> dict[str, Any]:
        """The first log line with this event and these facts."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            wanted = {"event": event, **facts}.items()
            found[:] = [line for line in self.log_lines() if wanted <= line.items()]
            return bool(found)

        wait_until(look, what=f"log line {event!r} {facts}")
        return found[0]


class AgentProcess(Logging):
    """`edge-backup run` with a configuration file; ended by `stop` or `kill`, restarted by `start`."""

    def __init__(self, work: Path, port: int, **settings: Any) -> None:
        self.work, self.storage = work, work / "storage"
        self.data = work / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.log = work / "agent.log"
        self.stderr = work / "stderr.txt"
        self.settings: dict[str, Any] = {
            "broker": f"tcp://127.0.0.1:{port}",
            "dir": str(self.data),
            "mode": "scoped",
            "storage": str(self.storage),
            "logFile": str(self.log),
            "logLevel": "TRACE",
            "announce": "modify",
            **settings,
        }
        self.environment = environment()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *prefix: str) -> "AgentProcess":
        """Start it, under another program when `prefix` names one."""
        assert PROGRAM.exists() or shutil.which("edge-backup"), "the package is not installed"
        config = self.work / "config.json"
        config.write_text(json.dumps(self.settings))
        with self.stderr.open("ab") as errors:
            self.process = subprocess.Popen(
                [*prefix, str(PROGRAM), "run", "--config", str(config)],
                stdout=errors, stderr=errors, env=self.environment, cwd=self.work,
            )  # fmt: skip
        return self

    def __enter__(self) -> "AgentProcess":
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.process and self.process.poll() is None:
            self.kill()

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def stop(self, timeout_s: float = 60) -> int:
        """Ask it to end with SIGTERM; its exit status."""
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(60)

    def log_lines(self) -> list[dict[str, Any]]:
        if not self.log.exists():
            return []
        lines = self.log.read_text("utf-8").splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]
