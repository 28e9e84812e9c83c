"""Answers that come late: a thread looks at disks or stores, and the main thread does not wait for it."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import structlog

from agent.base.errors import Cancelled
from agent.base.refusals import Reason, Refused
from agent.jobs.filesystem_probe import ThreadedCall
from agent.jobs.operations import Tell
from agent.mailbox import Mailbox
from agent.transfer.cancel import CancelToken

log = structlog.get_logger(__name__)

ANSWER_WITHIN_S = 25.0
"""`edge-backup send` waits for half a minute, and backends hardly longer."""


class LateAnswers:
    """The answers to one question, one at a time. Belongs to the main thread."""

    def __init__(self, question: str, mailbox: Mailbox, within_s: float) -> None:
        self._question, self._mailbox, self._within_s = question, mailbox, within_s
        self._running = False

    def refuse_second(self) -> None:
        """Raise `Refused` (BUSY) while an earlier question is being answered."""
        if self._running:
            why = f"the device is being looked at for an earlier '{self._question}'"
            raise Refused(Reason.BUSY, f"{why}: ask again in a minute")

    def begin(
        self,
        look: Callable[[], None],
        token: CancelToken,
        value: Callable[[bool], Mapping[str, Any]],
        tell: Tell,
    ) -> None:
        """Run `look` in a thread; at its end, or when time is up, tell the value.

        `value` gets True when `look` has come to its end. `token` is cancelled when time is up.
        """

        def answer(*, complete: bool) -> None:
            timer.cancel()
            if not told:
                told.append(True)
                tell(value(complete))

        def time_out() -> None:
            token.cancel("time is up", "deadline-exceeded")
            answer(complete=False)

        def ended(*, complete: bool) -> None:
            self._running = False
            answer(complete=complete)

        told: list[bool] = []
        timer = self._mailbox.call_later(self._within_s, time_out)
        self._running = True
        # No worker: a worker that a hung disk holds would end the agent.
        ThreadedCall(self._question, partial(self._run, look, ended))

    def _run(self, look: Callable[[], None], ended: Callable[..., None]) -> None:
        complete = False
        try:
            look()
            complete = True
        except Cancelled:
            pass
        except Exception:
            log.exception("internal error", operation=self._question)
        self._mailbox.post(partial(ended, complete=complete))
