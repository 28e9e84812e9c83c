"""What is done once in a while, over restarts: the journal knows when it was done last.

The device's clock counts. A device that is off most of the time does it when it is on; one whose clock
was wrong does it when the clock has jumped. Belongs to the main thread.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from agent.base.job import format_time, parse_time
from agent.journal import Journal, JournalError
from agent.mailbox import Mailbox, Timer

log = structlog.get_logger(__name__)

LOOK_AGAIN_S = 900.0
"""Time between two looks at the clock, which may jump."""
MOST_TRIES = 4
"""How often it is begun, when it comes to nothing each time, before the next period's turn comes."""


class Recurring:
    def __init__(
        self, name: str, period: timedelta, journal: Journal, mailbox: Mailbox, act: Callable[[], bool]
    ) -> None:
        """`act` admits what is to be done, which begins after the unit of work that is open.

        It returns False when that is not possible now. `name` is for the journal.
        """
        self._note, self._period, self._act = f"recurring.{name}", period, act
        self._journal, self._mailbox = journal, mailbox
        self._tries = 0
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Look now, and from now on. The first time of all comes after a whole period."""
        if self._journal.notes.read(self._note) is None:
            self._done(datetime.now(UTC))
        self.look()

    def put_off(self) -> None:
        """What was begun came to nothing, as before the network is there: try again at the next look."""
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
