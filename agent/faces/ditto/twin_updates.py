"""The twin's second feature, `<featureId>Status`, for properties that Kanto's model does not have.

It is told at most once in `INTERVAL_S`, and only when it has changed. So a short job costs one message, and
while offline only the newest value waits. Nothing wakes up for it while nothing happens.
"""

from collections.abc import Callable, Mapping
from typing import Any

from agent.base.text import compact_json
from agent.mailbox import Mailbox, Timer
from agent.mqtt.envelope import MAX_MESSAGE_BYTES, merge, modify
from agent.mqtt.hono import EVENTS
from agent.mqtt.outbox import Outbox
from agent.settings import Settings

INTERVAL_S = 5.0
ROOM_BYTES = MAX_MESSAGE_BYTES // 2
"""For the end of the last job: the rest of the message is for its envelope and other properties."""
SCHEDULE_ROOM_BYTES = MAX_MESSAGE_BYTES // 5
"""For the schedules."""
_MESSAGE = "status"

Properties = Mapping[str, Any]


class StatusFeature:
    """Belongs to the main thread. `properties` returns the values to tell."""

    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        outbox: Outbox,
        *,
        thing: Callable[[], str | None],
        properties: Callable[[], Properties],
    ) -> None:
        """`thing` returns the current one, None while the device does not know who it is."""
        self._on = settings.twin.status
        self._build = merge if settings.announce == "merge" else modify
        self._path = f"/features/{settings.feature_id}Status"
        self._mailbox, self._outbox, self._thing, self._properties = mailbox, outbox, thing, properties
        self._told: Properties | None = None
        self._timer: Timer | None = None

    def connected(self) -> None:
        """Tell everything again soon: the twin may have lost the feature, or never had it."""
        self._told = None
        self.changed()

    def changed(self) -> None:
        """Tell the state that holds when the interval is over: something may have changed."""
        if self._on and self._timer is None:
            self._timer = self._mailbox.call_later(INTERVAL_S, self.tell)

    def tell(self) -> None:
        self._timer = None
        thing, properties = self._thing(), self._properties()
        if thing is None or properties == self._told:
            return
        self._told = properties
        # Always all of it: a property could only be changed in a feature that the twin still has.
        message = self._build(thing, self._path, {"properties": properties})
        self._outbox.update(EVENTS, compact_json(message), _MESSAGE)
