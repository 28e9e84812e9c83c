"""`python -m tests.fuzz --seconds 300 [TARGET...]`: fuzzes what reads foreign bytes, guided by coverage.

What leads somewhere new is kept in build/fuzz, and the next run goes on from there. An input that breaks a
target is kept there, too, and named; the run ends with status 1.
"""

import argparse
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz the targets that the command line names, one after another; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=300, help="for each target")
    parser.add_argument("--directory", type=Path, default=Path("build/fuzz"))
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all of them")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if find_spec("atheris") is None:
        parser.error("atheris is missing: it exists for Linux on x86_64 and Python before 3.14")
    broken = [name for name in names if not _holds(name, options.seconds, options.directory)]
    print(f"broken: {', '.join(broken)}" if broken else "nothing broke")
    return 1 if broken else 0


def _holds(name: str, seconds: int, directory: Path) -> bool:
    print(f"{name}: {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz.child", name, str(seconds), str(directory)]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
