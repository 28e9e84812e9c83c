"""A restore with `replace` takes nothing away that its backup had passed over by wish."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.base.errors import ManifestBroken
from agent.formats.manifest import Manifest
from agent.jobs.requests.control import StatusRequest
from tests.support.fakes import Device
from tests.support.trees import Dir, File, Spec, make_tree

WHERE = {"storage.provider": "local", "local.name": "it.zip"}
TREE: Spec = {
    "cache": Dir(), "cache/f": File(b"1"), "sub": Dir(), "sub/a.log": File(b"1"), "sub/kept": File(b"1"),
    "tpm.key": File(b"1"),
}  # fmt: skip
EXCLUDED = {"cache", "cache/f", "sub/a.log"}


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    settings = {
        "exclude": "cache/", "unexportable": "*.key", "dataSets.logs.paths": f"{tmp_path}/var",
        "dataSets.logs.exclude": f"{tmp_path}/var/sub/*.log,{tmp_path}/var/cache/",
    }  # fmt: skip
    device = Device(tmp_path.resolve(), settings)
    make_tree(device.data, TREE)
    make_tree(tmp_path / "var", TREE)
    with closing(device):
        yield device


def run(device: Device, operation: str, **options: str) -> dict[str, Any]:
    said = device.command(
        operation,
        {"correlationId": f"c-{len(device.wire.sent)}", "options": WHERE | options},
        request_id=f"r-{len(device.wire.sent)}",
    )
    assert said[0][1]["status"] == 204, said
    device.finish()
    return dict(device.values()[-1])


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.mark.parametrize("data_set", [False, True])
@pytest.mark.parametrize("mode", ["replace", "exact"])
@pytest.mark.parametrize("preview", [False, True])
def test_what_the_backup_excluded_stays_unless_asked_otherwise(
    device: Device, tmp_path: Path, data_set: bool, mode: str, preview: bool
) -> None:
    root = tmp_path / "var" if data_set else device.data
    chosen = {"backup.dataTypes": "logs"} if data_set else {"backup.exclude": "*.log"}
    assert run(device, "backup", **chosen)["state"] == "BACKUP_FINISHED"
    (root / "later").write_bytes(b"new")
    (root / "sub/later.log").write_bytes(b"new")
    wanted = {"restore.mode": mode} | ({"restore.dataTypes": "logs"} if data_set else {})
    if preview:
        run(device, "restore", **wanted, **{"restore.preview": "true"})
        value = device.service.engine.status.status(StatusRequest(), 1 << 20)["preview"]
        lost = {"tpm.key", "later"} | ({"cache", "sub/a.log", "sub/later.log"} if mode == "exact" else set())
        assert set(value["lost"]) >= lost
        device.command("finalize", {"correlationId": value["id"]}, request_id="finalize")
        device.finish()
    else:
        assert run(device, "restore", **wanted)["state"] == "RESTORE_FINISHED"
    kept = EXCLUDED | {"sub/later.log"} if mode == "replace" else set()
    assert names(root) == {"sub", "sub/kept"} | kept


def test_patterns_of_a_manifest_are_checked_as_those_of_a_command() -> None:
    value = Manifest(device="d", agent="a", created="2026", correlation_id="c").value()
    for patterns in ([["x"] * 101], [["x" * 1001]], ["x"], [[1]]):
        with pytest.raises(ManifestBroken):
            Manifest.from_json(_json(value | {"exclude": {"": patterns}}))
    assert Manifest.from_json(_json(value | {"exclude": {"": [["*.log"]]}})).exclude == {"": [["*.log"]]}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
