"""The unit of work: what is kept all or nothing, and what leaves the process once it is on the disk."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import structlog

from agent.journal.intact import JournalBroken, JournalFiles, is_damage
from agent.journal.schema import sync_always

log = structlog.get_logger(__name__)

JournalError = sqlite3.Error
"""The journal cannot be read or written: the unit of work that is open will not be kept."""

Values = Sequence[object] | Mapping[str, object]

CROWDED_BYTES, FULL_BYTES = 4 << 20, 6 << 20
"""Ids and messages may be long: between these sizes the journal keeps less and less of its history."""


class Unit:
    """One unit of work."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        """The error after which the unit cannot be kept any more, even when a caller caught it."""
        self.actions: list[Callable[[], object]] = []

    def after_commit(self, action: Callable[[], object]) -> None:
        """Call `action` when all of the unit is on the disk, in the order of registration; else never."""
        self.actions.append(action)


class Database:
    """The journal's connection of the main thread. Every write belongs to a unit."""

    def __init__(self, connection: sqlite3.Connection, files: JournalFiles) -> None:
        self._connection, self._files = connection, files
        self._unit: Unit | None = None
        self.broken: Callable[[str], None] = lambda _problem: None
        """Told what became of the journal before `JournalBroken` is raised; need not return."""

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def unit(self, *, synced: bool = True) -> Iterator[Unit]:
        """Keep what is written inside all or nothing, with one sync; inside another unit it joins that one.

        A unit that writes nothing does not touch the disk. One that is not `synced` survives a kill, but a
        power cut only when a later one was synced. Raises `JournalError` when nothing was kept.
        """
        if self._unit:
            with _noting_failure(self._unit):
                yield self._unit
            return
        self._check_in_place()
        unit = self._unit = Unit()
        try:
            # The level cannot be changed inside a transaction.
            if not synced:
                self._connection.execute("PRAGMA synchronous=NORMAL")
            with _noting_failure(unit):
                yield unit
            if unit.failure:
                raise unit.failure
            with self._intact():
                self._connection.commit()
        except BaseException:
            # Also after a COMMIT that a full disk refused: what comes next must not join what has failed.
            self._connection.rollback()
            raise
        finally:
            self._unit = None
            if not synced:
                sync_always(self._connection)
        for action in unit.actions:
            _act(action)

    def read(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """All rows that a SELECT finds."""
        with self._intact():
            return self._connection.execute(query, values).fetchall()

    def rows(self, query: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
        """The rows that a SELECT finds, one by one. Nothing may be written before the last is taken."""
        return self._connection.execute(query, values)

    def write(self, statement: str, values: Values = ()) -> sqlite3.Cursor:
        """Carry out a statement as part of the unit that is open, or as a unit of its own."""
        with self.unit() as unit:
            self._begin(unit)
            with self._intact():
                return self._connection.execute(statement, values)

    def write_many(self, statement: str, rows: Iterable[Values]) -> None:
        """Carry out a statement once for each of `rows`."""
        with self.unit() as unit:
            self._begin(unit)
            with self._intact():
                self._connection.executemany(statement, rows)

    def _begin(self, unit: Unit) -> None:
        if unit.failure:  # a full disk may have ended the transaction: nothing more may be written
            raise unit.failure
        if not self._connection.in_transaction:
            with self._intact():
                self._connection.execute("BEGIN IMMEDIATE")

    def check(self) -> None:
        """Look at the journal's files and, where they changed, at the content. Raises `JournalBroken`."""
        self._check_in_place()
        if damage := self._files.damage():
            self._end(damage)

    def _check_in_place(self) -> None:
        if problem := self._files.problem():
            if self._files.log_is_gone:
                # The connection still has it: what was kept goes where the next start finds it.
                with suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._end(problem)

    @contextmanager
    def _intact(self) -> Iterator[None]:
        """Raise `JournalBroken` for an error that the journal's content is to blame for."""
        try:
            yield
        except sqlite3.Error as error:
            if is_damage(error):
                self._end(self._files.problem() or self._files.described(error))
            raise

    def _end(self, problem: str) -> NoReturn:
        self.broken(problem)
        raise JournalBroken(problem)

    def room_for(self, wanted: int) -> int:
        """How much of a history of `wanted` entries there is room for."""
        ((used_bytes,),) = self.read(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        left = (FULL_BYTES - used_bytes) / (FULL_BYTES - CROWDED_BYTES)
        return max(1, int(wanted * min(left, 1)))


@contextmanager
def _noting_failure(unit: Unit) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        unit.failure = unit.failure or error
        raise


def _act(action: Callable[[], object]) -> None:
    """What follows is independent of each other: a bug in one must not keep the next from happening."""
    try:
        action()
    except Exception:
        log.exception("internal error")
