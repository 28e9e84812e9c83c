"""Where it was measured, and what else went on there meanwhile."""

import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent import __version__

QUIET_CORES = 0.15
"""Kernel threads that write to the disk, and the system's own services, take about as much."""


def facts(work: Path, tools: Sequence[Sequence[str]], packages: Sequence[str]) -> dict[str, str]:
    """The machine, and versions: of each tool, given as the command that prints it, and Python package."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": f"{os.cpu_count()} × {_processor()}",
        "memory": f"{memory_bytes / (1 << 30):.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _output(["stat", "-f", "-c", "%T", str(work)]),
        "Python": platform.python_version(),
        "edge-backup": __version__,
        **{Path(tool[0]).name: _version(tool) for tool in tools},
        **{package: _package_version(package) for package in packages},
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _processor() -> str:
    match = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return match[1] if match else platform.machine()


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def _version(command: Sequence[str]) -> str:
    """The first thing that looks like a version in what `command` prints."""
    try:
        match = re.search(r"\d+\.\d+[\w.-]*", _output(command))
    except FileNotFoundError:
        return "missing"
    return match[0] if match else "unknown"


def _package_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "missing"


@dataclass(slots=True)
class OtherLoad:
    """The work of others on the processors while this was entered, kernel threads included.

    That is all that the machine did, less what this process and its children did. A child counts when it
    has been waited for: let all of them end inside.
    """

    cores: float = 0.0
    """How many cores others kept busy, on average; known after the exit."""
    _started_s: float = 0.0
    _others_s: float = 0.0

    def __enter__(self) -> "OtherLoad":
        self._started_s, self._others_s = time.monotonic(), _others_cpu_s()
        return self

    def __exit__(self, *_: object) -> None:
        elapsed_s = max(time.monotonic() - self._started_s, 0.001)
        self.cores = max(_others_cpu_s() - self._others_s, 0.0) / elapsed_s

    def __str__(self) -> str:
        verdict = "none to speak of" if self.cores < QUIET_CORES else "present: read the figures with care"
        return f"{self.cores:.2f} of {os.cpu_count()} cores on average, {verdict}"


def _others_cpu_s() -> float:
    # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; user holds the guests' time already.
    ticks = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    busy_s = (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return busy_s - sum(usage.ru_utime + usage.ru_stime for usage in usages)
