"""The unit of work: all its writes are kept, or none; its actions run when the writes are on the disk."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import structlog

from agent.base.text import encodable
from agent.journal.intact import JournalBroken, JournalFiles, is_damage
from agent.journal.schema import sync_always

log = structlog.get_logger(__name__)

JournalError = sqlite3.Error
"""The journal cannot be read or written: the unit of work that is open will not be kept."""

Values = Sequence[object]

CROWDED_BYTES, FULL_BYTES = 4 << 20, 6 << 20
"""Between these sizes the journal keeps less and less of its history, which long ids and messages fill."""


def _stored(values: Values) -> Values:
    """Return the values as SQLite takes them: a text that it refused would undo the whole unit."""
    return [encodable(value) if isinstance(value, str) else value for value in values]


class Unit:
    def __init__(self) -> None:
        self.failure: BaseException | None = None
        """The first error; after it the unit cannot be kept, even when a caller caught it."""
        self.actions: list[Callable[[], object]] = []

    def after_commit(self, action: Callable[[], object]) -> None:
        """Call `action` when the unit is on the disk, in order; never when the unit is not kept."""
        self.actions.append(action)


class Database:
    """The journal's connection of the main thread. Every write belongs to a unit."""

    def __init__(self, connection: sqlite3.Connection, files: JournalFiles) -> None:
        self._connection, self._files = connection, files
        self._unit: Unit | None = None
        self.broken: Callable[[str], None] = lambda _problem: None
        """Called with the problem before `JournalBroken` is raised; it may end the process."""

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def unit(self, *, synced: bool = True) -> Iterator[Unit]:
        """Keep all writes inside, or none, with one sync. A unit inside another one belongs to the outer one.

        A unit that writes nothing does not touch the disk. A unit that is not `synced` survives a kill,
        but a power cut only after a later synced unit. Raises `JournalError` when nothing was kept.
        """
        if self._unit:
            with _noting_failure(self._unit):
                yield self._unit
            return
        self._check_files_present()
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
            # A COMMIT that a full disk refused is rolled back, too: the next unit must not join it.
            self._connection.rollback()
            raise
        finally:
            self._unit = None
            if not synced:
                sync_always(self._connection)
        for action in unit.actions:
            _act(action)

    def read(self, query: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Return all rows that a SELECT finds."""
        with self._intact():
            return self._connection.execute(query, values).fetchall()

    def rows(self, query: str, values: Values = ()) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a SELECT one by one. Nothing may be written before the last is taken."""
        return self._connection.execute(query, values)

    def write(self, statement: str, values: Values = ()) -> sqlite3.Cursor:
        """Execute a statement as part of the open unit, or in a unit of its own."""
        with self.unit() as unit:
            self._begin(unit)
            with self._intact():
                return self._connection.execute(statement, _stored(values))

    def write_many(self, statement: str, rows: Iterable[Values]) -> None:
        with self.unit() as unit:
            self._begin(unit)
            with self._intact():
                self._connection.executemany(statement, map(_stored, rows))

    def _begin(self, unit: Unit) -> None:
        if unit.failure:  # a full disk may have ended the transaction: nothing more may be written
            raise unit.failure
        if not self._connection.in_transaction:
            with self._intact():
                self._connection.execute("BEGIN IMMEDIATE")

    def check(self) -> None:
        """Check the journal's files and, when they changed, their content. Raises `JournalBroken`."""
        self._check_files_present()
        if damage := self._files.damage():
            self._end(damage)

    def _check_files_present(self) -> None:
        if problem := self._files.problem():
            if self._files.log_is_gone:
                # The connection still has the log's content: copy it into the file that the next start reads.
                with suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._end(problem)

    @contextmanager
    def _intact(self) -> Iterator[None]:
        """Raise `JournalBroken` for an error that the journal's content causes."""
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
        """Return how many of `wanted` entries of a history fit into the journal."""
        ((used_bytes,),) = self.read(
            "SELECT (page_count - freelist_count) * page_size"
            " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
        )
        left = (FULL_BYTES - used_bytes) / (FULL_BYTES - CROWDED_BYTES)
        return max(1, int(wanted * min(left, 1)))


class Table:
    """A part of the journal with tables of its own. Changes belong to the unit that is open."""

    def __init__(self, database: Database) -> None:
        self._database = database


@contextmanager
def _noting_failure(unit: Unit) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        unit.failure = unit.failure or error
        raise


def _act(action: Callable[[], object]) -> None:
    """Call `action`. A bug in it is logged: the actions after it must happen nevertheless."""
    try:
        action()
    except Exception:
        log.exception("internal error")
