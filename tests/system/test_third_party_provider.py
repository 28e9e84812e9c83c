"""A stranger's provider, installed as strangers do it: by pip, found by its entry point, never by us."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.mosquitto import Mosquitto
from tests.support.trees import Dir, File, Link, Spec, differences, make_tree, snapshot

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "provider-calendar"
SAMPLE: Spec = {
    "config": Dir(0o750),
    "config/app.json": File(b'{"interval": 30}\n', 0o600),
    "config/current": Link("app.json"),
    "empty": Dir(),
    "app.log": File(b"".join(b"%06d INFO\n" % number for number in range(200_000))),
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, built and installed by pip into a directory of its own; nothing is fetched."""
    directory = tmp_path_factory.mktemp("site-packages")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(directory)]
    subprocess.run([*pip, *options, str(EXAMPLE)], check=True, env=_environment(), timeout=100)
    return directory


def _environment(*paths: Path) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "PYTHON"))}
    return own | {"PYTHONPATH": os.pathsep.join(map(str, paths))}


@pytest.fixture
def agent(tmp_path: Path, broker: Mosquitto, backend: Backend, installed: Path) -> Iterator[AgentProcess]:
    stick = tmp_path / "stick"
    stick.mkdir()
    targets = {"usb": {"path": str(stick)}, "gone": {"path": str(tmp_path / "nothing")}}
    device = AgentProcess(tmp_path / "device", broker.port, targets=targets)
    device.environment = _environment(installed)
    make_tree(device.data, SAMPLE)
    with device as running:
        backend.announced()
        yield running


def test_an_installed_provider_is_announced_and_backs_up_and_restores(
    agent: AgentProcess, backend: Backend, tmp_path: Path
) -> None:
    """The whole way: found by its name, archives stored where it says, the newest one found and restored."""
    properties = backend.announced()["value"]["properties"]
    assert properties["providers"] == ["aws", "azure", "generic", "calendar", "local"]
    before = snapshot(agent.data)
    del before[""]
    destination = {"storage.provider": "calendar", "calendar.target": "usb"}
    assert backend.run("backup", "b", destination)["state"] == "BACKUP_FINISHED"
    (archive,) = (tmp_path / "stick").rglob("*.zip")
    assert archive.parent.name == archive.name[len("backup-") :][: len("2026-11")]

    (agent.data / "app.log").write_bytes(b"")
    (agent.data / "config" / "current").unlink()
    assert backend.run("restore", "r", destination)["state"] == "RESTORE_FINISHED"
    after = snapshot(agent.data)
    del after[""]
    assert differences(before, after) == []


def test_its_refusals_are_answers_as_those_of_the_built_in_providers(
    agent: AgentProcess, backend: Backend
) -> None:
    """Wrong options are the request's fault, a stick that is not plugged in is not."""
    del agent
    wrong = {"storage.provider": "calendar", "calendar.target": "attic", "calendar.nmae": "x"}
    answer = backend.ask("backup", {"correlationID": "w", "options": wrong})
    assert answer["value"]["error"] == "messages:parameter.invalid"
    assert "'calendar.target'" in answer["value"]["message"]
    assert "'calendar.nmae'" in answer["value"]["message"]
    gone = {"storage.provider": "calendar", "calendar.target": "gone"}
    answer = backend.ask("backup", {"correlationID": "g", "options": gone})
    assert (answer["status"], answer["value"]["error"]) == (400, "messages:execution.failed")


def test_the_example_holds_the_whole_contract(installed: Path) -> None:
    """Its own tests, run as its author runs them: the suite over the installed package."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(EXAMPLE / "tests")]
    run = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=_environment(ROOT, installed),
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed
    assert int(passed[1]) > 50
