"""The age tool of the distribution, and the public test vectors of its format."""

import base64
import json
import os
import pty
import shutil
import subprocess
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.support.require import require

_VECTORS = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "edge-backup-tests/node_modules/cctv-age/index.js"  # what .ci/run installs
)
_AS_JSON = """
import * as vectors from 'file://%s'
const all = vectors.default ?? vectors
const texts = Object.entries(all).map(([name, bytes]) => [name, Buffer.from(bytes).toString('base64')])
console.log(JSON.stringify(Object.fromEntries(texts)))
"""


@dataclass(frozen=True)
class Vector:
    """An age file, who tries to open it, and what has to come of it."""

    name: str
    facts: Mapping[str, str]
    """`expect`, `payload` (the content's SHA-256) and others."""
    passphrases: list[str]
    identities: list[str]
    file: bytes

    @property
    def armored(self) -> bool:
        return self.facts.get("armored") == "yes"

    @property
    def hybrid(self) -> bool:
        """Return True when it takes the post-quantum recipients, which came with version 1.3."""
        return any(key.startswith("AGE-SECRET-KEY-PQ-") for key in self.identities)


def vectors() -> Iterator[Vector]:
    """All vectors of the npm package cctv-age. Skips the test where it is not installed."""
    require(_VECTORS.exists(), "cctv-age (npm: cctv-age)")
    require(shutil.which("node") is not None, "node (Debian: nodejs)")
    command = ["node", "--input-type=module", "-e", _AS_JSON % _VECTORS]
    output = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    for name, text in json.loads(output).items():
        yield _vector(name, base64.b64decode(text))


def _vector(name: str, data: bytes) -> Vector:
    head, _, file = data.partition(b"\n\n")
    lines = [line.partition(": ")[::2] for line in head.decode().splitlines()]
    facts = dict(lines)
    if facts.get("compressed") == "zlib":
        file = zlib.decompress(file)
    return Vector(
        name,
        facts,
        [value for key, value in lines if key == "passphrase"],
        [value for key, value in lines if key == "identity"],
        file,
    )


def age(*arguments: str | Path, typed: str = "") -> None:
    """Run `age`; what is `typed` waits in its terminal, the only place where it takes a passphrase from.

    Fails when it fails.
    """
    require(shutil.which("age") is not None, "age (Debian: age)")
    keyboard, terminal = pty.openpty()
    try:
        os.write(keyboard, typed.encode())
        # A session of its own, whose terminal is standard input.
        command = ["setsid", "--ctty", "--wait", "age", *map(str, arguments)]
        done = subprocess.run(
            command, stdin=terminal, capture_output=True, text=True, check=False, timeout=60
        )
    finally:
        os.close(keyboard)
        os.close(terminal)
    assert done.returncode == 0, done.stderr


def age_key(path: Path) -> str:
    """Make a private key in the file `path`, as an operator does; returns the public one."""
    require(shutil.which("age-keygen") is not None, "age-keygen (Debian: age)")
    subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True, timeout=60)
    command: list[str | Path] = ["age-keygen", "-y", path]
    return subprocess.check_output(command, text=True, timeout=60).strip()


def private_key(path: Path) -> str:
    """The private key in a file that `age-keygen` made."""
    return next(line for line in path.read_text().splitlines() if not line.startswith("#"))
