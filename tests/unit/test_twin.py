"""The twin is told its last values with the announcement, and nothing longer than Hono takes."""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.base.job import Job, Kind, Upload
from agent.base.refusals import Refused
from agent.jobs.events import Event, JobEnded, JobStarted, UploadChanged
from agent.jobs.requests.control import CancelRequest
from agent.mqtt.hono import Identity
from tests.support.fakes import FEATURE, LAST_OPERATION, LAST_UPLOAD, Device, command
from tests.support.requests import read

START = datetime(2026, 11, 21, 22, 28, 8, 388229, UTC)
LOCAL = {"storage.provider": "local"}


def told(device: Device, event: Event) -> None:
    """The engine tells the twin of an event."""
    with device.journal.unit() as unit:
        device.twin.tell(event, unit)


def announced(device: Device) -> list[dict[str, Any]]:
    """Return the announcement of the next connect."""
    device.outbox.down()
    before = len(device.wire.sent)
    device.connect()
    return [message for _, message in device.wire.sent[before:]]


def test_the_feature_is_announced_exactly_so(device: Device) -> None:
    """WIRE section 2, byte for byte."""
    assert device.wire.raw[0] == (
        "e",
        b'{"topic":"edge/device/things/twin/commands/modify","headers":{"response-required":false},'
        b'"path":"/features/BackupAndRestore","value":{"definition":['
        b'"com.bosch.iot.suite.manager.backup:BackupAndRestore:1.0.0",'
        b'"com.bosch.iot.suite.manager.upload:Uploadable:1.0.0"],"properties":{'
        b'"autoUpload":{"active":false,"startTime":null,"endTime":null},"context":"edge",'
        b'"info":{"supportedProviders":"aws,azure,generic,local"},'
        b'"providers":["aws","azure","generic","local"],"type":"file"}}}',
    )


def test_it_can_be_announced_as_a_merge(tmp_path: Path) -> None:
    """For backends that keep properties of their own in the feature."""
    device = Device(tmp_path, {"announce": "merge"})
    (_, message) = device.wire.sent[0]
    assert message["topic"] == "edge/device/things/twin/commands/merge"
    assert message["headers"]["content-type"] == "application/merge-patch+json"
    device.close()


def test_the_settings_name_the_feature(tmp_path: Path) -> None:
    device = Device(tmp_path, {"featureId": "Mine", "type": "config", "context": "lab"})
    (_, message) = device.wire.sent[0]
    assert message["path"] == "/features/Mine"
    properties = message["value"]["properties"]
    assert (properties["type"], properties["context"]) == ("config", "lab")
    device.close()


def test_the_last_values_go_along_because_a_modify_replaces_the_feature(device: Device) -> None:
    device.command("backup", {"correlationID": "X", "options": LOCAL})
    device.finish()
    (message,) = announced(device)
    assert message["value"]["properties"]["lastOperation"] == device.values()[-1]


def test_the_last_values_survive_a_restart(device: Device) -> None:
    device.command("backup", {"correlationID": "X", "options": LOCAL})
    device.finish()
    last = device.values()[-1]
    device.restart()
    (message,) = announced(device)
    assert message["value"]["properties"]["lastOperation"] == last


def test_last_values_that_do_not_fit_follow_as_modifies_of_their_own(device: Device) -> None:
    """Hono takes 2047 bytes, and the announcement alone is a third of that."""
    job = Job("j", Kind.BACKUP, "X" * 256, START)
    upload = Upload("c", "X" * 256, {"k": "v" * 600}, START)
    told(device, JobEnded(job.failed(START, "x", "m" * 400)))
    told(device, UploadChanged(upload.failed(START, "x", "m" * 400)))
    device.acknowledge()
    messages = announced(device)
    assert [message["path"] for message in messages] == [FEATURE, LAST_OPERATION, LAST_UPLOAD]
    assert "lastOperation" not in messages[0]["value"]["properties"]


def test_a_value_that_has_not_arrived_is_not_announced(device: Device) -> None:
    """It follows in its own message, and would otherwise be told twice, the second time too late."""
    device.wire.online = False
    told(device, JobStarted(Job("j", Kind.BACKUP, "X", START)))
    device.wire.online = True
    announcement, state = announced(device)
    assert "lastOperation" not in announcement["value"]["properties"]
    assert state["path"] == LAST_OPERATION


def test_another_identity_is_announced_for_the_other_thing(device: Device) -> None:
    """The feature moves to where the connector says that the device is."""
    device.twin.identity = Identity("other:thing")
    (message,) = announced(device)
    assert message["topic"] == "other/thing/things/twin/commands/modify"


IDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=256).filter(
    lambda text: len(text.encode()) <= 256
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(identifier=IDS, message=st.text(max_size=600), kind=st.sampled_from(Kind))
def test_every_last_operation_fits(device: Device, identifier: str, message: str, kind: Kind) -> None:
    """The schema, with its limit, is checked by the wire itself."""
    job = Job("j", kind, identifier, START)
    told(device, JobStarted(job))
    told(device, JobEnded(job.failed(START, "unknown-outcome", message)))
    device.acknowledge()


@pytest.mark.parametrize("operation", ["backup", "restore"])
def test_a_command_whose_states_would_not_fit_is_refused(device: Device, operation: str) -> None:
    """Ditto's thing ids have up to 256 characters, ids of ours 256 bytes, which JSON may make 1536 of."""
    name = "d" * 251
    device.twin.identity = Identity(f"edge:{name}")
    payload = command(operation, {"correlationID": "\x01" * 256, "options": LOCAL})
    said = device.receive(
        f"command///req/r/{operation}", payload.replace(b"edge/device", b"edge/%b" % name.encode())
    )
    assert said[0][1]["status"] in (204, 400)
    device.finish()


def test_the_longest_status_code_of_a_cancel_fits(device: Device) -> None:
    """It is somebody else's text, and goes into `lastOperation` beside an id that may be as long."""
    job = Job("j", Kind.RESTORE, "\x01" * 256, START)
    for given_code in ("c" * 64, "\U0001f600" * 64):
        with suppress(Refused):
            code = read(CancelRequest, {"statusCode": given_code}).code
            told(device, JobEnded(job.failed(START, code, "m" * 400)))
    device.acknowledge()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(max_size=50),
    length=st.integers(800, 1800),
    message=st.text(max_size=600),
    code=st.sampled_from(["", "unknown-outcome", "c" * 64, '"' * 64]),
)
@example("", 1569, "m" * 600, '"' * 64)
def test_an_upload_that_is_accepted_can_be_told_to_its_end(
    device: Device, text: str, length: int, message: str, code: str
) -> None:
    """`info.*` comes back in every value, beside a code that a `cancel` gave; refused if that is too long."""
    upload = Upload("c", "parent", {"k": "v" * length, "t": text}, START)
    with suppress(Refused):
        device.twin.can_tell(UploadChanged(upload))
        told(device, UploadChanged(upload))
        told(device, UploadChanged(upload.failed(START, code, message, cancelled=True)))
    device.acknowledge()
