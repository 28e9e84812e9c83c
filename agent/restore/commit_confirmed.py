"""A commit-confirmed restore: all is in place, and the old data is kept until the restore is confirmed.

It is confirmed when the setting `restore.healthCmd` succeeds and a `confirm` comes in time, whichever of the
two is required. The time left, the confirmation, or the reason for the way back is in the journal before the
agent acts on it. The mark `trial` in the working directory stands for a restore that waits: without it the
data is old, on its way back, or new for good.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from agent.base.clock import BootClock, Countdown
from agent.base.errors import Cancelled, ConfirmationPending, HealthFailed, HookFailed, JobError
from agent.base.job import ON_TRIAL
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
        """Return the note with the time that is left now."""
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
    """The decision about an unconfirmed restore. The main thread makes it, the job's thread waits for it."""

    def __init__(self) -> None:
        self._made = threading.Event()
        self.is_confirmed = False
        self._refusal: JobError | None = None
        self.health = CancelToken()
        """Ends the health command when the restore is taken back anyway."""

    def confirm(self) -> None:
        self.is_confirmed = True
        self._made.set()

    def refuse(self, reason: JobError) -> None:
        self._refusal = reason
        self.look()

    def look(self) -> None:
        """End the wait: the job's token or a refusal has ended the trial."""
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
    """Called when the wait begins, or goes on after a restart."""
    health: RunHook | None = None
    decision: ConfirmationDecision = field(default_factory=ConfirmationDecision)


def await_confirmation(
    confirmation: CommitConfirmed, note: ConfirmationNote, directory: Path, context: Context
) -> None:
    """Return when the restore is confirmed.

    Raises `NotConfirmed`, `HealthFailed` and `Cancelled` when it has to be taken back, and
    `ConfirmationPending` when the agent stops: the wait goes on after its restart.
    """
    context.phase(ON_TRIAL)
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
                pass  # `wait` raises the reason
        confirmation.decision.wait(context.token)


def verdict(error: BaseException, token: CancelToken) -> str:
    """Return the reason for the way back, for the journal: status code and message."""
    if isinstance(error, Cancelled):
        return json.dumps([token.code, token.message])
    return json.dumps([error.code, str(error)] if isinstance(error, JobError) else ["internal-error", ""])
