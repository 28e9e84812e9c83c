"""The table of operations: every one has its code, and each face offers what the table says."""

from contextlib import suppress
from typing import Any

import pytest

from agent.base.operations import OPERATIONS, Face, offered
from agent.base.refusals import Refused
from tests.support.fakes import Device


def test_every_operation_of_the_table_has_its_code(device: Device) -> None:
    """A question among the commands, or an operation without code, would be found by a backend first."""
    operations = device.service.engine.operations()
    for name, operation in OPERATIONS.items():
        assert operations.is_question(name) is operation.returns_value, name
    for name in (name for name, operation in OPERATIONS.items() if not operation.returns_value):
        with suppress(Refused):
            operations.admit(name, {}, Face.LOCAL)


def test_only_the_local_socket_prunes(device: Device) -> None:
    """The rules of removal are on the device; a backend has no say in it."""
    assert set(offered(Face.LOCAL)) - set(offered(Face.MQTT)) == {"prune"}
    ((_, answer),) = device.command("prune", {})
    assert answer["value"]["message"] == "Unsupported operation 'prune'!"


def test_a_setting_forbids_an_operation_to_backends_and_not_to_the_device(device: Device) -> None:
    device.settings = device.settings.model_copy(
        update={"allow": device.settings.allow.model_copy(update={"operations": ("backup",)})}
    )
    device.restart()
    ((_, answer),) = device.command("status")
    assert answer["status"] == 403
    asked = device.locally("status")
    assert asked.done(20)
    assert asked.result()["job"] is None


@pytest.mark.parametrize(
    ("operation", "options", "status"),
    [
        ("backup", {"backup.exclude": ["[z-a]"] * 100}, 409),
        ("restore", {"restore.mode": "wipe"}, 409),
        ("verify", {"restore.store": "nix"}, 409),
        ("backup", {"backup.unknown": "x"}, 400),
    ],
)
def test_while_a_job_runs_a_flood_is_refused_before_its_options_are_read(
    device: Device, operation: str, options: dict[str, Any], status: int
) -> None:
    """Stores are files, and patterns take their time: none of that is spent on what has to wait anyway."""
    (device.data / "file").write_text("content")
    device.command("backup", {"correlationId": "one"})
    ((_, answer),) = device.command(operation, {"options": options}, request_id="two")
    assert answer["status"] == status
    device.finish()
