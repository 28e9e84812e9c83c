"""Trees are removed however deep they are."""

import os
from pathlib import Path

from agent.base.durable import remove_tree


def test_a_tree_deeper_than_pythons_stack_is_removed(tmp_path: Path) -> None:
    """A command of the owner, or an archive that it unpacks, may have left it in the storage."""
    top = tmp_path / "work"
    top.mkdir()
    descriptor = os.open(top, os.O_RDONLY)
    for number in range(2500):
        for name in ("d", f"side-{number}"):
            os.mkdir(name, dir_fd=descriptor)
        inner = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    remove_tree(top)
    assert not top.exists()
    remove_tree(top)
