"""The objects that interrupted jobs left in repositories, as the device's own notes count them."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

_WAIT_S = 0.1


class Remains(NamedTuple):
    """Objects that no snapshot needs. A prune removes them; the device does not hear of it."""

    packs: int = 0
    indexes: int = 0
    locks: int = 0


def remains_in(states: Path) -> Remains:
    """Return the sum for all repositories, while no job runs. `states` has a directory for each of them."""
    found = [_read(path) for path in states.glob("*/*.pending")]
    return Remains(*map(sum, zip(*found, strict=True))) if found else Remains()


def _read(path: Path) -> Remains:
    """Return the counts in one file; zeros for one that cannot be read: it is only a note."""
    read_only = f"{path.absolute().as_uri()}?mode=ro"
    with (
        suppress(sqlite3.Error, ValueError),
        closing(sqlite3.connect(read_only, uri=True, timeout=_WAIT_S)) as database,
    ):
        (packs,) = database.execute("SELECT count(*) FROM packs").fetchone()
        facts = dict(database.execute("SELECT name, value FROM facts"))
        return Remains(
            packs + int(facts.get("left_packs", 0)),
            int(facts.get("indexes", 0)) + int(facts.get("left_indexes", 0)),
            len(facts.get("locks", "").split()) + int(facts.get("left_locks", 0)),
        )
    return Remains()
