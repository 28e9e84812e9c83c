"""`python -m tests.fuzz --seconds 300 [TARGET...]`: fuzzes what reads foreign bytes, guided by coverage.

What leads somewhere new is kept in build/fuzz, and the next run goes on from there. An input that breaks a
target is kept there, too, and named; the run ends with status 1.
"""

import argparse
import os
import sys
from importlib.util import find_spec
from pathlib import Path


def main() -> int:
    """Fuzz the targets that the command line names, one after another; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=int, default=300, help="for each target")
    parser.add_argument("--directory", type=Path, default=Path("build/fuzz"))
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them when none is named")
    options = parser.parse_args()
    if find_spec("atheris") is None:
        parser.error("atheris is missing: it exists for Linux on x86_64 and Python before 3.14")
    # Not before: this takes ten seconds, as it prepares all that a target may import.
    from tests.fuzz.instrumented import fuzz
    from tests.fuzz.targets import TARGETS

    names = options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    broken = []
    for name in names:
        print(f"{name}: {options.seconds} s", flush=True)
        # Each in a process of its own, which ends with its time or with an input that breaks the target.
        child = os.fork()
        if child == 0:
            fuzz(name, options.seconds, options.directory)
        if os.waitpid(child, 0)[1]:
            broken.append(name)
    print(f"broken: {', '.join(broken)}" if broken else "nothing broke")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
