"""Restores of hostile archives into a target that lies beside something precious, and what they broke."""

import os
import shutil
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.base.errors import JobError
from agent.formats.entry_checks import ArchiveLimits
from agent.restore.root import RestoreOptions
from providers.errors import StorageError
from tests.support.archives import open_descriptors
from tests.support.restoring import restored
from tests.support.trees import Dir, File, Found, Link, Spec, differences, make_tree, snapshot

LIMITS = ArchiveLimits(max_files=10_000, max_bytes=64 << 20, max_ratio=1000)
_OUTSIDE: Spec = {"secret": File(b"precious", 0o600), "d": Dir(), "d/f": File(b"x")}
_TARGET: Spec = {
    "a": Dir(), "a/old": File(b"old"), "link": Link("../outside"), "one": File(b"1"), "d": Link("/etc"),
}  # fmt: skip
MEMORY = Path("/dev/shm") if os.path.isdir("/dev/shm") else None
"""The directory for thousands of restores, each with its syncs."""


@dataclass
class Outcomes:
    """How the attacks ended, and every rule that one of them broke."""

    codes: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        ends = ", ".join(f"{count} {code}" for code, count in sorted(self.codes.items()))
        return f"{self.codes.total()} tried: {ends}; violations: {len(self.violations)}"

    def attack(self, tried: str, data: bytes, options: RestoreOptions | None = None) -> str:
        """Restore the archive `data` for real; the code of its end."""
        with tempfile.NamedTemporaryFile(dir=MEMORY) as file:
            file.write(data)
            file.flush()
            given = options or RestoreOptions(limits=LIMITS)
            return self.attack_by(tried, lambda target: restored(target, Path(file.name), given))

    def attack_by(self, tried: str, restore: Callable[[Path], object]) -> str:
        """Let `restore` restore into a directory; the code of its end."""
        root = Path(tempfile.mkdtemp(dir=MEMORY))
        try:
            return self._attack(tried, restore, root)
        finally:
            shutil.rmtree(root)

    def _attack(self, tried: str, restore: Callable[[Path], object], root: Path) -> str:
        make_tree(root / "outside", _OUTSIDE)
        make_tree(root / "target", _TARGET)
        before, descriptors = snapshot(root), open_descriptors()
        code = self._restore(tried, restore, root / "target")
        self.codes[code] += 1
        self.violations += [f"{tried}: {what}" for what in _damage(before, snapshot(root), code)]
        if open_descriptors() > descriptors:  # fewer: of an earlier test, closed by the garbage collector
            self.violations.append(f"{tried}: {open_descriptors() - descriptors} descriptors left open")
        return code

    def _restore(self, tried: str, restore: Callable[[Path], object], target: Path) -> str:
        try:
            restore(target)
        except (JobError, StorageError) as error:
            if not str(error).isprintable():
                self.violations.append(f"{tried}: a message that cannot be shown: {str(error)!r}")
            return error.code
        except Exception as error:
            self.violations.append(f"{tried}: {error!r}")
            return "another exception"
        return "restored"


def _damage(before: Mapping[str, Found], after: Mapping[str, Found], code: str) -> list[str]:
    if code != "restored":
        return differences(before, after)
    found = differences(_outside(before), _outside(after))
    for name in after.keys() - _outside(after).keys():
        node = after[name]
        if node.kind == "other":
            found.append(f"'{name}' is neither file, directory nor link")
        if node.kind != "link" and node.mode & (stat.S_ISUID | stat.S_ISGID):
            found.append(f"'{name}' has the mode {node.mode:o}")
        if name.startswith("target/.edge-backup-job-1/"):
            found.append(f"'{name}' is left")
    return found


def _outside(everything: Mapping[str, Found]) -> dict[str, Found]:
    return {name: found for name, found in everything.items() if not name.startswith("target")}
