"""The agent's own directories in a target: the storage, places for archives, what other restores work in."""

import os
from collections.abc import Iterable

from agent.base.errors import AccessForbidden
from agent.base.identity import identity
from agent.base.text import readable
from agent.restore.directories import Tree, is_directory


class OwnNames:
    """Names that no restore changes: who may send commands may not thereby write the journal."""

    def __init__(self, target: Tree, names: Iterable[str]) -> None:
        """`names` are relative to the target; a file system may know them by others, which ignore case."""
        self._names = frozenset(names)
        found = [status for name in self._names if (status := target.stat(name))]
        self._identities = {identity(status) for status in found if is_directory(status)}

    def have(self, path: str, status: os.stat_result | None) -> bool:
        """Return True when `path`, with this status, is one of them."""
        if path in self._names:
            return True
        return status is not None and is_directory(status) and identity(status) in self._identities

    def refuse(self, path: str, status: os.stat_result | None = None) -> None:
        """Raise AccessForbidden when `path` is one of them, or holds one."""
        if self.have(path, status) or any(name.startswith(f"{path}/") for name in self._names):
            raise AccessForbidden(
                f"'{readable(path)}' in the target is or holds the agent's own storage, archives or work,"
                " which no restore changes"
            )
