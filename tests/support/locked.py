"""Prints the part of requirements.lock that an installation with some extras needs."""

import re
import sys

from tests.support.sbom import OURS, ROOT, installed


def locked(*extras: str) -> str:
    """Return the locked versions, with their hashes, of all that the agent with these extras needs."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    blocks = re.findall(r"^(([\w.-]+)==.*?)(?=^[\w.-]+==|\Z)", lock, re.MULTILINE | re.DOTALL)
    by_name = {name: block for block, name in blocks}
    return "".join(by_name[name] for name in installed(*extras) if name != OURS)


if __name__ == "__main__":
    sys.stdout.write(locked(*sys.argv[1:]))
