"""The edge-backup agent: commands over MQTT, archives in a provider, restores all or nothing."""

from datetime import UTC, datetime

__version__ = "0.1.0"
RELEASED = datetime(2026, 11, 1, tzinfo=UTC)
"""No clock that is right shows an earlier time; moved with `__version__`."""
