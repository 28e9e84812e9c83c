"""Tasks that recur over restarts: the journal knows when each was done last.

The device's clock decides. A device that is off most of the time does a task when it is on; a device whose
clock was wrong does it when the clock has jumped. Belongs to the main thread.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from agent.base.times import format_time, parse_time
from agent.journal import Journal, JournalError
from agent.mailbox import Mailbox, Timer

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 900.0
"""Time between two looks at the clock, which may jump."""
MOST_TRIES = 4
"""The most tries of a task in one period."""


class Recurring:
    def __init__(
        self, name: str, period: timedelta, journal: Journal, mailbox: Mailbox, act: Callable[[], bool]
    ) -> None:
        """`act` admits the task, which begins after the unit of work that is open.

        It returns False when the task cannot begin now. `name` is for the journal.
        """
        self._note, self._period, self._act = f"recurring.{name}", period, act
        self._journal, self._mailbox = journal, mailbox
        self._tries = 0
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Look now, and from now on. A new device does the task after a whole period."""
        if self._journal.notes.read(self._note) is None:
            self._done(datetime.now(UTC))
        self.look()

    def put_off(self) -> None:
        """Try again at the next look: the task failed, as it does before the network is there."""
        if self._tries >= MOST_TRIES:
            return
        try:
            self._done(datetime.now(UTC) - self._period)
        except JournalError:
            log.exception("task not postponed: journal not writable", task=self._note)

    def look(self) -> None:
        if self._timer:
            self._timer.cancel()
        # First, so that whatever goes wrong is tried again.
        self._timer = self._mailbox.call_later(LOOK_AGAIN_S, self.look)
        now = datetime.now(UTC)
        last = parse_time(self._journal.notes.read(self._note) or "")
        if timedelta(0) <= now - last < self._period:
            self._tries = 0
            return
        try:
            with self._journal.unit() as unit:
                if self._act():
                    self._done(now)
                    unit.after_commit(partial(setattr, self, "_tries", self._tries + 1))
        except JournalError:
            log.exception("task postponed: journal not writable", task=self._note)

    def _done(self, now: datetime) -> None:
        self._journal.notes.keep(self._note, format_time(now))
