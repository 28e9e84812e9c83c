"""Messages that must arrive, and the last value of each property of the twin that has arrived."""

import json
import sqlite3
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import structlog

from agent.journal.unit import Table, Unit

log = structlog.get_logger(__name__)


class OutboxStore(Table):
    """Keeps the messages of `agent.mqtt.outbox`."""

    def unit(self) -> AbstractContextManager[Unit]:
        """Open a unit of work of the journal."""
        return self._database.unit()

    def keep(self, topic: str, payload: bytes, property_name: str) -> int:
        """Keep a message until the broker has it; return its number."""
        cursor = self._database.write(
            "INSERT INTO outbox (topic, payload, property) VALUES (?, ?, ?)", (topic, payload, property_name)
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def delivered(self, number: int) -> None:
        """Forget the message; its payload is now the last value of its property.

        This is not synced, which saves half of all syncs: after a power cut the message may still be there
        and is sent once more, unchanged.
        """
        with self._database.unit(synced=False):
            self._database.write(
                "REPLACE INTO twin SELECT property, payload FROM outbox WHERE id = ? AND property != ''",
                (number,),
            )
            self._database.write("DELETE FROM outbox WHERE id = ?", (number,))

    def remember(self, property_name: str, payload: bytes) -> None:
        """Let the value of a message be the last known one of its property, as if it had arrived."""
        self._database.write("REPLACE INTO twin VALUES (?, ?)", (property_name, payload))

    def give_up(self, numbers: Iterable[int]) -> None:
        """Forget messages that cannot be delivered; when the disk refuses, the next start forgets them."""
        try:
            self._database.write_many("DELETE FROM outbox WHERE id = ?", [(number,) for number in numbers])
        except sqlite3.Error:
            log.exception("sent messages not removed: journal not writable")

    def kept(self) -> list[tuple[int, str, bytes, str]]:
        """Return number, topic, payload and property of each message that is kept, in order."""
        rows = self._database.read("SELECT id, topic, payload, property FROM outbox ORDER BY id")
        return [(number, topic, payload, name) for number, topic, payload, name in rows]

    def last_values(self) -> dict[str, Any]:
        """Return the last value of each property of the twin: arrived, or for the next announcement."""
        rows = self._database.read("SELECT property, payload FROM twin")
        return {name: json.loads(payload)["value"] for name, payload in rows}
