"""A whole system of its own, booted by systemd-nspawn from what this one has on its disk."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.support.require import possible
from tests.support.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
_INSIDE = "srv/checkout"
"""Where scripts are run inside: the path of a checkout there, from the root."""


class Machine:
    """A booted system whose files are `root`: this system's, with changes that are gone afterwards."""

    def __init__(self, root: Path) -> None:
        self.root, self.checkout = root, root / _INSIDE
        self._leader = 0

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def install_environment(self) -> None:
        """Put the tests' own environment where an installation has its own: at /opt/edge-backup."""
        (self.root / "opt").mkdir(exist_ok=True)
        (self.root / "opt/edge-backup").symlink_to(sys.prefix)
        for closed in Path(sys.executable).resolve().parents:  # a developer's Python may be in a closed home
            (self.root / closed.relative_to("/")).chmod(0o755)

    def run(self, *command: str, timeout_s: float = 60) -> str:
        """Return the output of a command inside, its errors too; fail when it does not end in time."""
        enter = ["nsenter", "--all", "--target", str(self._leader)]
        done = subprocess.run(
            [*enter, *command], capture_output=True, text=True, timeout=timeout_s, check=False
        )
        return done.stdout + done.stderr

    def follow(self, script: str) -> str:
        """Return the output of a shell script in `checkout`; fail with it when a command fails."""
        before = f"exec 2>&1; set -eu; mkdir -p /{_INSIDE}; cd /{_INSIDE}"
        commands = f"{before}\n{script}\necho '### done'"
        printed = self.run("bash", "-c", commands, timeout_s=240)
        assert printed.endswith("### done\n"), printed
        return printed

    def shows(self, unit: str, key: str) -> str:
        return self.run("systemctl", "show", "--value", f"--property={key}", unit).strip()

    @contextmanager
    def booted(self, unit: str) -> Iterator[None]:
        """Boot into `unit` with what it needs; switched off without ceremony."""
        nspawn = ["systemd-nspawn", f"--directory={self.root}", "--machine=edge-backup-test",
                  "--private-network", "--register=no", "--keep-unit", "--console=pipe",
                  # These may be in /tmp, which is emptied at a boot, or on another disk.
                  f"--bind-ro={CHECKOUT}", f"--bind-ro={sys.base_prefix}"]  # fmt: skip
        tried = subprocess.run([*nspawn, "/bin/true"], check=False, capture_output=True, text=True)
        possible(tried.returncode == 0, f"systemd-nspawn: {tried.stderr.strip()[-200:]}")
        process = subprocess.Popen(
            [*nspawn, "--boot", f"systemd.unit={unit}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: self._found_leader(process.pid), what="the machine's first process")
            wait_until(lambda: self.shows(unit, "ActiveState") == "active", what=unit, timeout_s=60)
            yield
        finally:
            if self._leader:
                os.kill(self._leader, signal.SIGKILL)  # and with it all others inside; it outlives nspawn
            process.kill()
            process.wait(30)

    def _found_leader(self, nspawn_pid: int) -> bool:
        """Return True when a child of nspawn is process 1 inside, not only on the way to it."""
        for child in Path(f"/proc/{nspawn_pid}/task/{nspawn_pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):  # a helper of nspawn that has ended
                status = Path(f"/proc/{child}/status").read_text()
                if re.search(r"^NSpid:\t\d+\t1$", status, re.MULTILINE):
                    self._leader = int(child)
        return bool(self._leader)


@contextmanager
def machine(scratch: Path) -> Iterator[Machine]:
    """A machine that is not booted yet; `scratch` is an empty directory. Needs root."""
    with ExitStack() as stack:
        for options, destination in (
            (["-t", "tmpfs", "none"], scratch),
            (["-t", "overlay", "-o", f"lowerdir=/,upperdir={scratch}/upper,workdir={scratch}/work", "none"],
             scratch / "root"),
        ):  # fmt: skip
            mounted = subprocess.run(["mount", *options, destination], check=False, capture_output=True)
            possible(mounted.returncode == 0, f"mount {options[1]} at {destination}")
            stack.callback(subprocess.run, ["umount", "--lazy", os.fspath(destination)], check=True)
            for name in ("upper", "work", "root"):
                (scratch / name).mkdir(exist_ok=True)
        yield Machine(scratch / "root")
