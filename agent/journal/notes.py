"""Notes: short texts under a key that a part of the agent needs after a restart."""

import secrets

from agent.journal.unit import Table

DEVICE = "device"
"""The note of the device's id, for programs that cannot ask the broker."""
LAST_SUCCESS = "last_success"
"""The note of when the last good backup ended; it outlives the job's record."""
LAST_VERIFIED = "last_verified"
"""The note of the last archive that was found whole: JSON, with its `time`."""


class Notes(Table):
    def read(self, key: str) -> str | None:
        """Return the note under this key; None when there is none."""
        rows = self._database.read("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def keep(self, key: str, value: str) -> None:
        """Replace the note under this key."""
        self._database.write("REPLACE INTO meta VALUES (?, ?)", (key, value))

    def random(self, key: str) -> str:
        """Return a random text that is made once and stays: the client id, the key of the payload digests."""
        if (known := self.read(key)) is not None:
            return known
        self.keep(key, made := secrets.token_hex(8))
        return made
