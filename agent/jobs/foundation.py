"""The foundation of the engine: the services that its parts share. None of them knows a kind of job."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from agent.jobs.device import Device
from agent.jobs.events import Events
from agent.jobs.progress import JobProgress
from agent.jobs.staging import OwnDirectories, Staging
from agent.jobs.worker import Workers
from agent.journal import Journal, JournalError
from agent.mailbox import Action, Mailbox
from agent.settings import Settings

log = structlog.get_logger(__name__)

AGAIN_S = 2.0
"""Time between two attempts to write to a journal that cannot be written."""


@dataclass(frozen=True, slots=True)
class Recorder:
    later: Callable[[float, Action], object]
    """Calls an action in the main thread after so many seconds."""

    def record(self, write: Action, *, refused: Action = lambda: None, **about: str) -> None:
        """Call `write` until the journal can be written; call `refused` once, when the first call fails.

        `about` is for the log.
        """
        try:
            write()
        except JournalError:
            log.exception("journal not writable, trying again", **about)
            refused()
            self.later(AGAIN_S, partial(self._again, write, about))

    def _again(self, write: Action, about: dict[str, str]) -> None:
        try:
            write()
        except JournalError:
            self.later(AGAIN_S, partial(self._again, write, about))
        else:
            log.info("journal writable again", **about)


@dataclass(frozen=True, slots=True)
class Foundation:
    """Services of one engine. Each part takes those that it names in its constructor."""

    settings: Settings
    mailbox: Mailbox
    journal: Journal
    staging: Staging
    device: Device
    events: Events
    recorder: Recorder
    workers: Workers
    progress: JobProgress
    own: OwnDirectories
