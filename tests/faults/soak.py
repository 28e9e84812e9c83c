"""A long life in a short time: thousands of small backups and restores with random faults.

    python -m tests.faults.soak [--jobs 10000] [--kill]

The outcome of every job is checked, and from time to time what the agent holds: memory, descriptors,
threads, the journal, and what is left in its storage. With `--kill` it is killed and started again now
and then, so that only outcomes, journal and storage can be compared.
"""

import argparse
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.rig import LOCAL, Rig, rig
from tests.support.http_server import HttpServer, Say
from tests.support.stalling import stalling
from tests.support.waiting import wait_until

WARM_JOBS = 1000
MAX_GROWTH_BYTES = 4 << 20
MAX_JOURNAL_BYTES = 16 << 20
KNOWN = {"archives", "archives/archive.zip", "backups", "http.sock", "downloads", "lock", "spare"}
KNOWN |= {"journal.db", "journal.db-shm", "journal.db-wal", "restore.key", "restored-into.json"}
SETTINGS = {"transfer.attempts": 1, "logLevel": "INFO", "deviceId": "edge:device"}


@dataclass(frozen=True)
class Held:
    """Resources of an idle agent."""

    memory_bytes: int
    descriptors: int
    threads: int


class Soak:
    """Jobs one after the other; the kind of each is drawn from `weights`."""

    def __init__(self, there: Rig, denied_url: str, seed: int, *, kill: bool = False) -> None:
        self._there, self._denied_url = there, denied_url
        self._random = random.Random(seed)
        self.done: Counter[str] = Counter()
        self._kinds: dict[Callable[[str], None], int] = {
            self.backup: 440,
            self._restore: 440,
            self._denied: 30,
            self._bad_command: 40,
            self._cancelled: 30,
            self._missing: 20,
            self._broker_cut: 4,
            self.killed: 10 if kill else 0,
        }

    def run(self, jobs: int) -> None:
        for _ in range(jobs):
            (kind,) = self._random.choices(list(self._kinds), list(self._kinds.values()))
            name = kind.__name__.strip("_")
            self.done[name] += 1
            kind(f"{name}-{self.done.total()}")
            self._there.backend.messages.clear()

    def _expect(self, operation: str, name: str, options: dict[str, str], code: str = "") -> None:
        ended = self._there.backend.run(operation, name, options)
        assert ended["statusCode"] == code, ended
        assert ended["state"] == f"{operation.upper()}_{'FAILED' if code else 'FINISHED'}", ended

    def backup(self, name: str) -> None:
        (self._there.agent.data / "app.json").write_text(name)
        self._expect("backup", name, LOCAL)
        self._saved = name

    def _restore(self, name: str) -> None:
        (self._there.agent.data / "app.json").write_text("damaged")
        self._expect("restore", name, LOCAL)
        assert (self._there.agent.data / "app.json").read_text() == self._saved

    def _denied(self, name: str) -> None:
        self._expect("backup", name, {"https.url": self._denied_url}, "access-denied")

    def _missing(self, name: str) -> None:
        self._expect("restore", name, LOCAL | {"local.name": "never.zip"}, "not-found")

    def _bad_command(self, name: str) -> None:
        assert (
            self._there.backend.ask("backup", {"correlationID": name, "options": {"storage.provider": "?"}})[
                "status"
            ]
            == 400
        )

    def _cancelled(self, name: str) -> None:
        operation = self._random.choice(["backup", "restore"])
        with stalling() as destination:
            value = {"correlationID": name, "options": {"https.url": destination.url}}
            assert self._there.backend.ask(operation, value)["status"] == 204
            assert destination.reached.wait(60)
            assert self._there.backend.ask("cancel", {"correlationID": name})["status"] == 204
            assert self._there.backend.ended(name)["statusCode"] == "cancelled"

    def _broker_cut(self, name: str) -> None:
        backend, value = self._there.backend, {"correlationID": name, "options": LOCAL}
        backend.send("backup", value)
        self._there.proxy.cut()
        assert backend.ended(name)["state"] == "BACKUP_FINISHED"
        self._saved_by(name)

    def killed(self, name: str) -> None:
        backend, agent = self._there.backend, self._there.agent
        backend.send("backup", {"correlationID": name, "options": LOCAL})
        time.sleep(self._random.uniform(0, 0.05))  # anywhere in the job
        agent.kill()
        agent.start()
        assert backend.ended(name)["statusCode"] in ("", "interrupted")
        self._saved_by(name)

    def _saved_by(self, name: str) -> None:
        """The archive is the one of now, or of before, which a restore cannot tell: make a new one."""
        self.backup(f"{name}-after")

    # What the agent holds

    def held(self) -> Held:
        process = Path(f"/proc/{self._there.agent.pid}")
        status = process.joinpath("status").read_text("ascii")
        numbers = {key: int(value) for key, value in re.findall(r"^(\w+):\s+(\d+)", status, re.MULTILINE)}
        return Held(numbers["RssAnon"] << 10, len(os.listdir(process / "fd")), numbers["Threads"])

    def settled(self, wanted: Held | None = None) -> Held:
        """When threads and connections of the last job have had the time to end."""
        if wanted:
            wait_until(
                lambda: (
                    self.held().threads <= wanted.threads and self.held().descriptors <= wanted.descriptors
                ),
                what=f"no more threads and descriptors than {wanted}, now {self.held()}",
            )
        return self.held()

    def journal_bytes(self) -> int:
        return sum(path.stat().st_size for path in self._there.agent.storage.glob("journal.db*"))

    def leftovers(self) -> set[str]:
        storage = self._there.agent.storage
        left = {str(path.relative_to(storage)) for path in storage.rglob("*")} - KNOWN
        return left | {path.name for path in self._there.agent.data.iterdir()} - {"app.json"}


@contextmanager
def memory_directory() -> Iterator[Path]:
    """In memory where possible: syncs that take long make nothing but the soak longer."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shared) as directory:
        yield Path(directory)


@contextmanager
def soaking(work: Path, seed: int, *, kill: bool = False) -> Iterator[Soak]:
    with HttpServer(lambda _request: Say(403)) as denied, rig(work, **SETTINGS) as there:
        there.backend.announced()
        soak = Soak(there, f"{denied.url}/x", seed, kill=kill)
        soak.backup("first")
        yield soak


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill", action="store_true")
    chosen = parser.parse_args()
    with (
        memory_directory() as work,
        soaking(work, chosen.seed, kill=chosen.kill) as soak,
    ):
        problems = _soak(soak, chosen.jobs, chosen.kill)
    print(*[f"FAILED: {problem}" for problem in problems] or ["all is well"], sep="\n")
    return bool(problems)


def _soak(soak: Soak, jobs: int, kill: bool) -> list[str]:
    print("   jobs  jobs/s  anonymous KiB  descriptors  threads  journal KiB", flush=True)
    warm: Held | None = None
    for total in range(WARM_JOBS, jobs + 1, WARM_JOBS):
        begun_s = time.monotonic()
        soak.run(WARM_JOBS)
        rate = WARM_JOBS / (time.monotonic() - begun_s)
        held = soak.settled(warm if not kill else None)
        warm = warm or held
        print(
            f"{total:7,}  {rate:6.1f}  {held.memory_bytes >> 10:13,}  {held.descriptors:11}"
            f"  {held.threads:7}  {soak.journal_bytes() >> 10:11,}",
            flush=True,
        )
    print("kinds:", ", ".join(f"{name} {count:,}" for name, count in sorted(soak.done.items())))
    problems = []
    if warm and not kill and held.memory_bytes - warm.memory_bytes >= MAX_GROWTH_BYTES:
        problems.append(f"memory grew by {held.memory_bytes - warm.memory_bytes:,} bytes")
    if soak.journal_bytes() >= MAX_JOURNAL_BYTES:
        problems.append(f"the journal has {soak.journal_bytes():,} bytes")
    if left := soak.leftovers():
        problems.append(f"left over: {sorted(left)[:10]}")
    return problems


if __name__ == "__main__":
    sys.exit(_main())
