"""A stranger's provider, installed as strangers do it: by pip, found by its entry point, never by us."""

import os
import re
import shutil
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
    _install(EXAMPLE, directory)
    return directory


def _install(source: Path, directory: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--target", str(directory)]
    subprocess.run([*pip, *options, str(source)], check=True, env=_environment(), timeout=100)


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


@pytest.fixture(scope="module")
def with_wheel(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent's wheel, built from a copy of the sources and installed."""
    work = tmp_path_factory.mktemp("wheel")
    copied = shutil.ignore_patterns(".*", "tests", "benchmarks", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, work / "source", ignore=copied)
    _install(work / "source", work / "site")
    return work / "site"


def test_a_stranger_runs_the_contract_suite_out_of_the_wheel(
    installed: Path, with_wheel: Path, tmp_path: Path
) -> None:
    """In a directory of their own, with no checkout of ours, and with warnings as errors."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", "--strict-markers"]
    run = subprocess.run(
        [*command, "-c", os.devnull, "--rootdir", str(tmp_path), "--pyargs", "providers.testing"],
        check=False,
        cwd=tmp_path,
        env=_environment(with_wheel, installed, EXAMPLE / "tests")
        | {"EDGE_BACKUP_UNDER_TEST": "calendar_under_test:CalendarUnderTest"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "warning" not in run.stdout
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed
    assert int(passed[1]) > 45


def test_without_a_provider_the_suite_says_how_to_name_one(with_wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs", "providers.testing"]
    run = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env=_environment(with_wheel),
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "EDGE_BACKUP_UNDER_TEST=package.module:Name" in run.stdout + run.stderr


def test_what_is_particular_to_the_example_has_tests_of_its_own(installed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(EXAMPLE / "tests")]
    run = subprocess.run(command, check=False, cwd=ROOT, env=_environment(installed), timeout=110)
    assert run.returncode == 0
