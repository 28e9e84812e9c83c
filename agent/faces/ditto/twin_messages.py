"""The messages of the agent to the digital twin: the announcement, the properties, the upload request.

Composes messages and puts them into the outbox, in the order in which it is called. Every message fits
into Hono's 2048 bytes: a text is cut, and what cannot be cut was refused before it was accepted.
"""

import json
import os
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import providers
from agent.base.job import Job, Kind, State, Upload, UploadState
from agent.base.refusals import Reason, Refused
from agent.base.text import compact_json
from agent.base.times import format_time
from agent.jobs.events import (
    Event,
    JobEnded,
    JobStarted,
    ScheduleChanged,
    Subscriber,
    UploadChanged,
    UploadRequested,
)
from agent.jobs.frame import Frame
from agent.jobs.requests.raw import MAX_CODE_BYTES
from agent.journal import DEVICE, Journal, Unit
from agent.journal.staged import Child
from agent.mqtt.envelope import MAX_MESSAGE_BYTES, fitting, merge, modify, outbox_message
from agent.mqtt.hono import EVENTS, Identity
from agent.mqtt.outbox import Outbox
from agent.settings import Settings

DEFINITION = [
    "com.bosch.iot.suite.manager.backup:BackupAndRestore:1.0.0",
    "com.bosch.iot.suite.manager.upload:Uploadable:1.0.0",
]
LAST_OPERATION, LAST_UPLOAD = "lastOperation", "lastUpload"
_LONGEST_CODE = '"' * MAX_CODE_BYTES
_KANTO_ORDER = ("aws", "azure", "generic")


def provider_names() -> list[str]:
    """Return the providers that can be used here: first those that Kanto has, in its order."""
    usable = providers.usable()
    kantos = [name for name in _KANTO_ORDER if name in usable]
    return [*kantos, *(name for name in usable if name not in kantos)]


class Twin(Subscriber):
    """Speaks for `identity`, which is that of an earlier run until the device knows who it is.

    Values from before the device ever knew that are kept as the last values of their properties, which the
    announcement tells. Belongs to the main thread.
    """

    def __init__(self, settings: Settings, journal: Journal, outbox: Outbox) -> None:
        self._settings, self._journal, self._outbox = settings, journal, outbox
        earlier = journal.notes.read(DEVICE)
        self.identity: Identity | None = Identity(earlier) if earlier else None
        self.frame: Frame
        """The frame of the periodic backups; to be set before the feature is announced."""

    @property
    def thing(self) -> str | None:
        """Return the device's thing, as in topics; None before the device ever knew who it is."""
        return self.identity.thing if self.identity else None

    @property
    def _known(self) -> Identity:
        """Return the identity; without one, a stand-in for messages of which only the value is kept."""
        return self.identity or Identity("unknown:unknown")

    @cached_property
    def _providers(self) -> list[str]:
        """Return `provider_names()`, which reads what is installed, once."""
        return provider_names()

    @property
    def _path(self) -> str:
        return f"/features/{self._settings.feature_id}"

    def announcement(self) -> list[tuple[str, bytes]]:
        """Return the messages of every connect: the feature, with the last values that this agent has told.

        A modify replaces the feature, so these go along, or right after when all together is too long.
        """
        arrived = {name: json.loads(payload)["value"] for name, payload in self._outbox.arrived.items()}
        known = self._journal.outbox.last_values() | arrived
        last = {name: known[name] for name in (LAST_OPERATION, LAST_UPLOAD) if name in known}
        build = merge if self._settings.announce == "merge" else modify
        together = compact_json(build(self._known.thing, self._path, self._feature(last)))
        if len(together) <= MAX_MESSAGE_BYTES:
            return [(EVENTS, together)]
        alone = compact_json(build(self._known.thing, self._path, self._feature({})))
        return [(EVENTS, alone), *((EVENTS, self._alone(name, value)) for name, value in last.items())]

    def _alone(self, name: str, value: Mapping[str, Any]) -> bytes:
        """Return the message about one of the last values: it may have been made for a shorter thing."""
        return fitting(lambda text: self._property(name, {**value, "message": text}), value["message"])

    def _feature(self, last_values: Mapping[str, object]) -> dict[str, Any]:
        settings, names = self._settings, self._providers
        properties = {
            "autoUpload": auto_upload(self.frame),
            "context": settings.context,
            "info": {"supportedProviders": ",".join(names)},
            **last_values,
            "providers": names,
            "type": settings.type,
        }
        return {"definition": DEFINITION, "properties": properties}

    def _property(self, name: str, value: object) -> dict[str, Any]:
        return modify(self._known.thing, f"{self._path}/properties/{name}", value)

    # As a subscriber of the engine

    def can_tell(self, event: Event) -> None:
        """Raise `Refused` when the longest message about it would be too long to be sent."""
        match event:
            case JobStarted(job=job):
                value = last_operation(job.failed(job.started, _LONGEST_CODE, ""), "…")
                _check_fits(compact_json(self._property(LAST_OPERATION, value)), "correlationId is")
            case UploadChanged(upload=upload):
                value = last_upload(upload.failed(upload.started, _LONGEST_CODE, "", cancelled=True), "…")
                _check_fits(compact_json(self._property(LAST_UPLOAD, value)), "options 'info.*' are")
            case UploadRequested(child=child):
                _check_fits(compact_json(self._request(child)), "options 'options.*' are")

    def tell(self, event: Event, unit: Unit) -> None:
        match event:
            case JobStarted(job=job) | JobEnded(job=job) if job.kind is Kind.VERIFY:
                pass  # Kanto's model knows no such operation
            case JobEnded(job=job, kept=False):
                if self.identity:
                    self._outbox.say(EVENTS, self._last_operation(job))
            case JobStarted(job=job) | JobEnded(job=job):
                self._keep(LAST_OPERATION, self._last_operation(job))
            case UploadRequested(child=child):
                self._outbox.keep(EVENTS, compact_json(self._request(child)))
            case UploadChanged(upload=upload):
                self._tell_upload(upload)
            case ScheduleChanged(frame=frame):
                if self.identity:
                    self._outbox.keep(EVENTS, compact_json(self._property("autoUpload", auto_upload(frame))))
                unit.after_commit(partial(setattr, self, "frame", frame))

    def _keep(self, name: str, payload: bytes) -> None:
        if self.identity:
            self._outbox.keep(EVENTS, payload, name)
        else:
            self._journal.outbox.remember(name, payload)

    def _last_operation(self, job: Job) -> bytes:
        return fitting(lambda text: self._property(LAST_OPERATION, last_operation(job, text)), job.message)

    def _tell_upload(self, upload: Upload) -> None:
        """Send a state of an upload: the first and the last arrive, newer ones may replace those between."""
        payload = fitting(lambda text: self._property(LAST_UPLOAD, last_upload(upload, text)), upload.message)
        if upload.state is UploadState.UPLOADING and upload.progress and self.identity:
            self._outbox.update(EVENTS, payload, LAST_UPLOAD)
        else:
            self._keep(LAST_UPLOAD, payload)

    def _request(self, child: Child) -> dict[str, Any]:
        options = child.staged.options | {
            "file.path": os.fspath(child.staged.path.absolute()),
            "storage.providers": ", ".join(name for name in self._providers if name != "local"),
        }
        value = {"correlationId": child.child_id, "options": options}
        who, feature_id = self._known, self._settings.feature_id
        return outbox_message(who.thing, feature_id, "request", value, tenant_id=who.tenant_id)


def _check_fits(payload: bytes, what: str) -> None:
    if len(payload) > MAX_MESSAGE_BYTES:
        excess = len(payload) - MAX_MESSAGE_BYTES
        raise Refused(Reason.INVALID, f"{what} {excess} bytes too long to be sent on")


# The values of the properties, as Kanto's model has them (docs/wire.md)


def last_operation(job: Job, message: str) -> dict[str, Any]:
    """Return the value of `lastOperation`, with as much of the message as fits."""
    return {
        "correlationId": job.correlation_id,
        "state": f"{job.kind.upper()}_{job.state}",
        "startTime": format_time(job.started),
        "endTime": format_time(job.ended),
        "statusCode": job.status_code,
        "message": message,
        "progress": 100 if job.state is State.FINISHED else 0,
        "info": None,
    }


def last_upload(upload: Upload, message: str) -> dict[str, Any]:
    """Return the value of `lastUpload`, with as much of the message as fits."""
    return {
        "correlationId": upload.parent_id,
        "state": str(upload.state),
        "startTime": format_time(upload.started),
        "endTime": format_time(upload.ended),
        "statusCode": upload.status_code,
        "message": message,
        "progress": upload.progress,
        "info": upload.info,
    }


def auto_upload(frame: Frame) -> dict[str, Any]:
    """Return the value of `autoUpload`: Kanto's `AutoUploadableState`."""
    return {
        "active": frame.active,
        "startTime": format_time(frame.start) if frame.start else None,
        "endTime": format_time(frame.end) if frame.end else None,
    }
