"""The foundation of the engine: the services that its parts share. None of them knows a kind of job."""

from dataclasses import dataclass

from agent.jobs.device import Device
from agent.jobs.events import Events
from agent.jobs.progress import Monitor
from agent.jobs.recorder import Recorder
from agent.jobs.staging import OwnDirectories, Staging
from agent.jobs.worker import Workers
from agent.journal import Journal
from agent.mailbox import Mailbox
from agent.settings import Settings


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
    monitor: Monitor
    own: OwnDirectories
