"""Messages that must arrive, and the last value of each property of the twin that did."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager

import structlog

from agent.journal.unit import Database, Unit

log = structlog.get_logger(__name__)


class OutboxStore:
    """Keeps the messages of `agent.mqtt.outbox`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def unit(self) -> AbstractContextManager[Unit]:
        """The journal's unit of work."""
        return self._database.unit()

    def keep(self, topic: str, payload: bytes, property_name: str) -> int:
        """Keep a message until the broker has it: its number."""
        cursor = self._database.write(
            "INSERT INTO outbox (topic, payload, property) VALUES (?, ?, ?)", (topic, payload, property_name)
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def delivered(self, number: int) -> None:
        """Forget the message; what it set is now the last known value of its property.

        Not synced, which spares the flash half of all syncs: after a power cut the message may still be
        there and is sent once more, identical.
        """
        with self._database.unit(synced=False):
            self._database.write(
                "REPLACE INTO twin SELECT property, payload FROM outbox WHERE id = ? AND property != ''",
                (number,),
            )
            self._database.write("DELETE FROM outbox WHERE id = ?", (number,))

    def give_up(self, numbers: Iterable[int]) -> None:
        """Forget messages that nobody has heard; when the disk does not allow it, a restart gives them up."""
        try:
            self._database.write_many("DELETE FROM outbox WHERE id = ?", [(number,) for number in numbers])
        except sqlite3.Error:
            log.exception("sent messages not removed: journal not writable")

    def kept(self) -> list[tuple[int, str, bytes, str]]:
        """Number, topic, payload and property of all that is kept, in order."""
        rows = self._database.read("SELECT id, topic, payload, property FROM outbox ORDER BY id")
        return [(number, topic, payload, name) for number, topic, payload, name in rows]

    def last_values(self) -> dict[str, object]:
        """The last value of each property of the twin that has arrived."""
        rows = self._database.read("SELECT property, payload FROM twin")
        return {name: json.loads(payload)["value"] for name, payload in rows}
