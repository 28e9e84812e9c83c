"""An unconfirmed restore: all is in place, and the old data is kept until somebody is content with the new.

Content means that the setting `restore.healthCmd` succeeded and that a `confirm` came in time, whichever of
the two is asked for. What decides is in the journal before it is acted upon: how much time is left, that the
restore was confirmed, or why it is taken back. The mark `trial` in the working directory says that there is a
trial at all: without it the data is old, or on its way back there, or new for good.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from agent.base.clock import BootClock
from agent.base.countdown import Countdown
from agent.base.errors import Cancelled, ConfirmationPending, HealthFailed, HookFailed, JobError
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, RunHook


@dataclass(frozen=True, slots=True)
class ConfirmationNote:
    """The journal's note of a restore that waits for its confirmation."""

    within_s: float | None = None
    """The time until the `confirm`; None when nobody has to confirm."""
    countdown: Countdown | None = None
    files: int = 0
    content_bytes: int = 0

    def counted(self, clock: BootClock) -> "ConfirmationNote":
        """With the time that is left now; the whole of it when nobody counted before."""
        if self.within_s is None:
            return self
        if self.countdown is None:
            return replace(self, countdown=Countdown.of(self.within_s, clock))
        return replace(self, countdown=self.countdown.noted(clock))

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "ConfirmationNote":
        found = json.loads(text)
        countdown = found["countdown"]
        return cls(**{**found, "countdown": countdown and Countdown(*countdown)})


class ConfirmationDecision:
    """The decision about such a restore: made in the main thread, waited for in the job's."""

    def __init__(self) -> None:
        self._made = threading.Event()
        self.is_confirmed = False
        self._refusal: JobError | None = None
        self.health = CancelToken()
        """Token of the health command: nobody waits for its end when the restore is taken back anyway."""

    def confirm(self) -> None:
        self.is_confirmed = True
        self._made.set()

    def refuse(self, reason: JobError) -> None:
        self._refusal = reason
        self.look()

    def look(self) -> None:
        """Something else has ended the trial: the job's token."""
        self._made.set()
        self.health.cancel("the trial is over")

    def wait(self, token: CancelToken) -> None:
        """Return when it is confirmed. Raises the refusal, `Cancelled` and `ConfirmationPending`."""
        self._made.wait()
        if self._refusal:
            raise self._refusal
        if not self.is_confirmed:
            if token.interrupted:
                raise ConfirmationPending(token.message)
            token.check()


@dataclass(frozen=True, slots=True)
class CommitConfirmed:
    note: ConfirmationNote
    began: Callable[[ConfirmationNote], None]
    """Told when the trial begins, or goes on after a restart."""
    health: RunHook | None = None
    decision: ConfirmationDecision = field(default_factory=ConfirmationDecision)


def await_confirmation(
    confirmation: CommitConfirmed, note: ConfirmationNote, directory: Path, context: Context
) -> None:
    """Return when the restore is to stay.

    Raises `NotConfirmed`, `HealthFailed` and `Cancelled` when it is to be taken back, and
    `ConfirmationPending` when the agent stops meanwhile: the wait goes on when it is there again.
    """
    context.phase("trial")
    confirmation.began(note)
    if note.within_s is None:
        confirmation.decision.confirm()
    with context.token.waking(confirmation.decision.look):
        if confirmation.health:
            try:
                confirmation.health(directory, confirmation.decision.health)
            except HookFailed as error:
                raise HealthFailed(str(error)) from error
            except Cancelled:
                pass  # the decision says why
        confirmation.decision.wait(context.token)


def verdict(error: BaseException, token: CancelToken) -> str:
    """Why a restore is taken back, for the journal: status code and message."""
    if isinstance(error, Cancelled):
        return json.dumps([token.code, token.message])
    return json.dumps([error.code, str(error)] if isinstance(error, JobError) else ["internal-error", ""])
