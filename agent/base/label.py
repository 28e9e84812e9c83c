"""The label of a backup: its name, its purpose, and how long it is wanted. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agent.base.job import format_time


@dataclass(frozen=True, slots=True)
class Label:
    """A label; a member that nobody gave is empty or None."""

    name: str = ""
    description: str = ""
    retention_date: datetime | None = None
    """From then on the archive may be removed."""

    def facts(self) -> dict[str, Any]:
        """Return what the label says, as the history keeps it; the time as `format_time` writes it."""
        date = format_time(self.retention_date) if self.retention_date else ""
        facts = {"name": self.name, "description": self.description, "retention_date": date}
        return {key: text for key, text in facts.items() if text}
