"""New hardware for an old device, as docs/recipes.md says it: the installed program on an empty storage."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import SAMPLE
from tests.support.age import age_key
from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.doc_blocks import blocks
from tests.support.settings_files import private_file
from tests.support.trees import make_tree, snapshot
from tests.support.waiting import wait_until

OLD, NEW = "edge:device-17", "edge:device-18"
KEY = " --secret restore.identity=@key.txt"
NO_BROKER = 1


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The data of the application, at one path on every device."""
    return tmp_path / "app"


@contextmanager
def hardware(tmp_path: Path, name: str, kind: str, **settings: Any) -> Iterator[AgentProcess]:
    """A device with an empty storage, the settings of the fleet, and what opens its backups."""
    store: dict[str, Any] = {"provider": "local", "options": {"local.target": "usb"}}
    (tmp_path / "usb").mkdir(exist_ok=True)
    (tmp_path / name).mkdir()
    if kind == "zip":
        settings["encryption.recipients"] = recipient(tmp_path)
        shutil.copy(tmp_path / "key.txt", tmp_path / name / "key.txt")
    else:
        credentials = tmp_path / name / "credentials.json"
        private_file(credentials, '{"password": "of the fleet"}')
        store |= {"format": "repository", "prefix": "fleet/{device}", "credentials": str(credentials)}
    device = AgentProcess(tmp_path / name, NO_BROKER, **settings)
    device.settings |= {
        "dir": str(tmp_path / "app"),
        "targets": {"usb": {"path": str(tmp_path / "usb")}},
        "stores": {"cloud": store},
    }
    device.environment |= {
        "EDGE_BACKUP_CONFIG": str(device.work / "config.json"),
        "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
    }
    with device:
        wait_until((device.storage / "http.sock").exists, what="the agent")
        yield device


def recipient(tmp_path: Path) -> str:
    """The public key of the fleet, whose private one lies in key.txt."""
    known = tmp_path / "recipient"
    if not known.exists():
        known.write_text(age_key(tmp_path / "key.txt"))
    return known.read_text()


def shell(device: AgentProcess, script: str) -> str:
    """Return the output of a script in the directory of a device; it must succeed."""
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=device.work, env=device.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["zip", "repository"])
def test_new_hardware_takes_over_from_an_old_device(tmp_path: Path, directory: Path, kind: str) -> None:
    """First under the id of the old device, then, on a third device, under another one."""
    make_tree(directory, SAMPLE)
    saved = snapshot(directory)
    with hardware(tmp_path, "old", kind, deviceId=OLD) as old:
        made = json.loads(shell(old, "edge-backup backup --store cloud --json"))
    recipes = [each.text for each in blocks("recipes.md") if each.heading.startswith("New hardware")]
    assert len(recipes) == 2
    for name, device_id, recipe in zip(("same", "other"), (OLD, NEW), recipes, strict=True):
        shutil.rmtree(directory)
        script = recipe if kind == "zip" else recipe.replace(KEY, "")
        with hardware(tmp_path, name, kind, deviceId=device_id) as new:
            told = shell(new, script)
            assert made["archive"] in told.partition("carry it out")[0]
            assert snapshot(directory) == saved
            if device_id == OLD:
                made = json.loads(shell(new, "edge-backup backup --store cloud --json"))
