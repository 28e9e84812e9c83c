"""Snapshots in repositories by the installed program over a broker: restic is the other side."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from providers.aws import S3
from providers.errors import AccessDenied
from providers.testing.faultproxy import FaultProxy
from tests.contract.place_aws import S3Place
from tests.contract.place_azure import AzurePlace
from tests.integration.conftest import Started
from tests.support import stores
from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import DEVICE, Backend
from tests.support.clouds import add_incompressible
from tests.support.repositories import PASSWORD, restic
from tests.support.settings_files import private_file
from tests.support.trees import contents, differences
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PREFIX = "fleet/{device}"
BELOW = f"fleet/{DEVICE}"


@dataclass
class Kept:
    """A repository of the device at one store, and the way there for restic."""

    provider: str
    options: dict[str, str]
    secrets: dict[str, str]
    repository: Callable[[Path], str]
    """Returns restic's name of it; may copy it to a directory first."""
    environment: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def configure(self, device: AgentProcess) -> None:
        credentials = device.work / "store.json"
        private_file(credentials, json.dumps({**self.secrets, "password": PASSWORD}))
        store = {
            "provider": self.provider,
            "options": self.options,
            "credentials": str(credentials),
            "format": "repository",
            "prefix": PREFIX,
        }
        device.settings |= {"stores": {"night": store}, **self.settings}


@contextmanager
def local(work: Path) -> Iterator[Kept]:
    directory = work / "target"
    directory.mkdir(parents=True)
    targets = {"targets": {"usb": {"path": str(directory)}}}
    yield Kept("local", {"local.target": "usb"}, {}, lambda _: f"{directory}/{BELOW}", settings=targets)


@contextmanager
def rest(work: Path) -> Iterator[Kept]:
    """A server that lets nobody remove anything but locks."""
    work.mkdir(parents=True)
    with stores.rclone_rest(work) as server:
        url = f"http://{server.user}:{server.secret}@127.0.0.1:{server.port}/"
        yield Kept("generic", {}, {"https.url": url}, lambda _: f"rest:{url}{BELOW}/")


def s3_rights(bucket: str) -> list[dict[str, Any]]:
    """The policy that docs/repository.md gives to copy."""
    _, _, rest = (ROOT / "docs/repository.md").read_text("utf-8").partition("<!-- s3 policy -->\n```js\n")
    policy, _, _ = rest.partition("```")
    statements: list[dict[str, Any]] = json.loads(policy.replace("BUCKET", bucket).replace("PREFIX", BELOW))[
        "Statement"
    ]
    return statements


def write_only(_bucket: str) -> list[dict[str, Any]]:
    return [{"Action": "s3:PutObject"}]


@contextmanager
def s3(work: Path, rights: Callable[[str], list[dict[str, Any]]] = s3_rights) -> Iterator[Kept]:
    with stores.moto(work) as server:
        place = S3Place(server, "backups")
        user, secret = stores.moto_user(server, "device", *rights(place.bucket))
        options = place.options("unused")
        del options["aws.object.key"], options["aws.access.key.id"], options["aws.secret.access.key"]
        yield Kept(
            "aws",
            options,
            {"aws.access.key.id": user, "aws.secret.access.key": secret},
            lambda _: f"s3:{server.url}/{place.bucket}/{BELOW}",
            {"AWS_ACCESS_KEY_ID": server.user, "AWS_SECRET_ACCESS_KEY": server.secret},
        )


write_only_s3 = partial(s3, rights=write_only)


@contextmanager
def azure(work: Path) -> Iterator[Kept]:
    """With the right to create, and no other."""
    with stores.azurite(work) as server:
        place = AzurePlace(server, "backups")
        options = place.options("unused")
        del options["azure.blob.name"], options["azure.shared.access.signature"]

        def copied(directory: Path) -> str:
            for name in place.names():
                file = directory / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(place.read(name) or b"")
            return str(directory / BELOW)

        yield Kept("azure", options, {"azure.shared.access.signature": place.make_sas("c")}, copied)


PLACES: dict[str, Callable[[Path], AbstractContextManager[Kept]]] = {
    "local": local,
    "rest": rest,
    "s3": s3,
    "s3 to write only": write_only_s3,
    "azure": azure,
}


@pytest.fixture(params=PLACES)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    with PLACES[request.param](tmp_path / "server") as made:
        yield made


def backup(backend: Backend, correlation_id: str) -> dict[str, Any]:
    """Ask for a backup, and return what the twin is told of its end."""
    value = {"correlationId": correlation_id, "options": {"backup.store": "night"}}
    assert backend.ask("backup", value)["status"] == 204
    return backend.ended(correlation_id)


def test_snapshots_of_the_device_are_listed_checked_and_restored_by_restic(
    device: AgentProcess, backend: Backend, started: Started, kept: Kept, tmp_path: Path
) -> None:
    kept.configure(device)
    agent = started()
    first = backup(backend, "X1")
    assert (first["state"], first["statusCode"]) == ("BACKUP_FINISHED", "")
    assert "files new, 0 changed, 0 unmodified" in first["message"]
    (agent.data / "config/app.json").write_text('{"interval": 60}\n')
    second = backup(backend, "X2")
    assert second["state"] == "BACKUP_FINISHED"
    assert "0 files new, 1 changed, 3 unmodified" in second["message"]
    told = backend.ask("describe", {"correlationId": "X2"}, request_id="q")["value"]
    assert (told["filesNew"], told["filesChanged"], told["filesUnmodified"]) == (0, 1, 3)
    assert told["addedBytes"] < 20_000
    assert told["store"] == "night"
    assert PASSWORD not in agent.log.read_text()

    repository = kept.repository(tmp_path / "copy")

    def ask(*arguments: str) -> str:
        return restic(repository, *arguments, environment=kept.environment)

    listed = json.loads(ask("snapshots", "--no-lock", "--json"))
    assert [(each["id"], each["hostname"]) for each in listed] == [
        (listed[0]["id"], DEVICE),
        (told["archive"], DEVICE),
    ]
    ask("check", "--read-data", "--no-lock")
    ask("restore", "latest", "--no-lock", "--target", str(tmp_path / "restored"))
    assert contents(tmp_path / "restored" / agent.data.relative_to("/")) == contents(agent.data)


def lose_state(agent: AgentProcess) -> None:
    """Let the device be new hardware, with the settings of the old one."""
    assert agent.stop() == 0
    shutil.rmtree(agent.storage / "repositories")
    agent.start()


def test_new_hardware_with_the_right_to_read_goes_on_from_the_last_snapshot(
    device: AgentProcess, backend: Backend, started: Started, tmp_path: Path
) -> None:
    with rest(tmp_path / "server") as kept:
        kept.configure(device)
        agent = started()
        backup(backend, "X1")
        lose_state(agent)
        assert "0 files new, 0 changed, 4 unmodified" in backup(backend, "X2")["message"]
        repository = kept.repository(tmp_path)
        assert len(json.loads(restic(repository, "snapshots", "--no-lock", "--json"))) == 2


@pytest.mark.parametrize(
    ("place", "code", "words"),
    [
        (write_only_s3, "repository-lost", "this device has lost what it knew of it"),
        (azure, "access-denied", "the SAS does not allow to create it, or it is there already"),
    ],
    ids=["s3", "azure"],
)
def test_new_hardware_without_the_right_to_read_is_told_what_to_do(
    device: AgentProcess,
    backend: Backend,
    started: Started,
    tmp_path: Path,
    place: Callable[[Path], AbstractContextManager[Kept]],
    code: str,
    words: str,
) -> None:
    with place(tmp_path / "server") as kept:
        kept.configure(device)
        agent = started()
        backup(backend, "X1")
        lose_state(agent)
        end = backup(backend, "X2")
        assert (end["state"], end["statusCode"]) == ("BACKUP_FAILED", code)
        assert words in end["message"]


@pytest.fixture
def slow(device: AgentProcess, started: Started, tmp_path: Path) -> Iterator[tuple[AgentProcess, FaultProxy]]:
    """An agent with much to send to a REST server, over a slow line."""
    with (
        stores.rclone_rest(_made(tmp_path / "server")) as server,
        FaultProxy(("127.0.0.1", server.port)) as proxy,
    ):
        proxy.rate_bytes_per_s = 20e6
        url = f"http://{server.user}:{server.secret}@127.0.0.1:{proxy.address[1]}/"
        Kept("generic", {}, {"https.url": url}, str).configure(device)
        add_incompressible(device.data, 80 << 20)
        yield started(), proxy


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def check(tmp_path: Path) -> list[dict[str, Any]]:
    """Let restic check the server's directory; return its snapshots."""
    repository = tmp_path / "server" / BELOW
    restic(repository, "check", "--read-data", "--no-lock")
    found: list[dict[str, Any]] = json.loads(restic(repository, "snapshots", "--no-lock", "--json"))
    return found


def test_after_a_kill_in_the_middle_the_next_snapshot_sends_the_rest(
    slow: tuple[AgentProcess, FaultProxy], backend: Backend, tmp_path: Path
) -> None:
    agent, proxy = slow
    backend.send("backup", {"correlationId": "X1", "options": {"backup.store": "night"}})
    wait_until(lambda: proxy.passed["up"] > 50 << 20, what="most of the content to be sent")
    agent.kill()
    sent = proxy.passed["up"]
    agent.start()
    assert backend.ended("X1")["statusCode"] == "interrupted"
    remains = backend.ask("status", request_id="q1")["value"]["remains"]
    assert remains["packs"] >= 3
    assert remains["locks"] == 1
    proxy.rate_bytes_per_s = None
    assert backup(backend, "X2")["state"] == "BACKUP_FINISHED"
    assert proxy.passed["up"] - sent < 60 << 20, "packs that were stored were sent again"
    assert "remains" not in backend.ask("status", request_id="q2")["value"]
    assert len(check(tmp_path)) == 1


def test_a_cancelled_snapshot_ends_at_once_and_leaves_a_whole_repository(
    slow: tuple[AgentProcess, FaultProxy], backend: Backend, tmp_path: Path
) -> None:
    _, proxy = slow
    backend.send("backup", {"correlationId": "X1", "options": {"backup.store": "night"}})
    wait_until(lambda: proxy.passed["up"] > 20 << 20, what="some content to be sent")
    backend.send("cancel", {"correlationId": "X1", "statusCode": "stop", "message": "enough"})
    ended = backend.ended("X1", timeout_s=10)
    assert (ended["state"], ended["statusCode"], ended["message"]) == ("BACKUP_FAILED", "stop", "enough")
    proxy.rate_bytes_per_s = None
    assert backup(backend, "X2")["state"] == "BACKUP_FINISHED"
    assert len(check(tmp_path)) == 1


def test_periodic_backups_write_snapshots(
    device: AgentProcess, backend: Backend, started: Started, tmp_path: Path
) -> None:
    with local(tmp_path / "server") as kept:
        kept.configure(device)
        started(schedule={"store": "night"}, active=True, period="1h")
        _, envelope = backend.wait(
            lambda message: "BACKUP_FINISHED" in json.dumps(message[1].get("value")), "a periodic backup"
        )
        assert "files new" in envelope["value"]["message"]
        (found,) = json.loads(restic(kept.repository(tmp_path), "snapshots", "--no-lock", "--json"))
        assert found["hostname"] == DEVICE


def test_the_policy_to_copy_lets_nobody_read_or_remove_content_with_the_device_s_key(tmp_path: Path) -> None:
    """A thief of the device has its key."""
    name = f"{BELOW}/data/00/0000"
    with stores.moto(tmp_path / "moto") as server:
        place = S3Place(server, "backups")
        user, secret = stores.moto_user(server, "device", *s3_rights(place.bucket))
        options = place.options("x") | {"aws.access.key.id": user, "aws.secret.access.key": secret}
        with closing(S3(options, place.limits)) as storage:
            storage.create(name, b"content")
            with pytest.raises(AccessDenied):
                storage.read_range(name, 0, 10)
            with pytest.raises(AccessDenied):
                storage.delete(name)
            with pytest.raises(AccessDenied):
                storage.create("fleet/another/data/00/0000", b"content")
            storage.create(f"{BELOW}/locks/1", b"lock")
            storage.delete(f"{BELOW}/locks/1")
        assert place.names() == [name]


def run(agent: AgentProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), *arguments, "--config", str(agent.work / "config.json")],
        capture_output=True, text=True, timeout=60, cwd=agent.work, env=agent.environment, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("place", ["local", "rest"])
def test_what_was_damaged_comes_back_from_a_snapshot(
    device: AgentProcess, backend: Backend, started: Started, place: str, tmp_path: Path
) -> None:
    """By the newest one over MQTT, and by the first one at the command line; then all is verified."""
    with PLACES[place](tmp_path / "server") as kept:
        kept.configure(device)
        agent = started()
        first, before = backup(backend, "X1"), contents(agent.data)
        (agent.data / "start.sh").write_text("second")
        assert backup(backend, "X2")["state"] == "BACKUP_FINISHED"
        second = contents(agent.data)
        (agent.data / "start.sh").write_text("damaged")
        (agent.data / "config/app.json").unlink()
        restored = backend.run("restore", "R1", {"restore.store": "night"})
        assert (restored["state"], restored["statusCode"]) == ("RESTORE_FINISHED", "")
        assert differences(second, contents(agent.data)) == []
        assert first["state"] == "BACKUP_FINISHED"
        told = backend.ask("describe", {"correlationId": "X1"}, request_id="q")["value"]
        done = run(agent, "restore", "--store", "night", "-o", f"restore.archive={told['archive'][:12]}")
        assert done.returncode == 0, done.stderr
        assert differences(before, contents(agent.data)) == []
        assert run(agent, "verify", "--store", "night").returncode == 0
        shown = run(agent, "inspect", "--store", "night", "--files")
        assert "config/app.json" in shown.stdout, shown.stderr
        assert PASSWORD not in agent.log.read_text()


def all_rights(bucket: str) -> list[dict[str, Any]]:
    return [{"Action": "s3:*", "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]}]


@pytest.mark.parametrize("rights", [all_rights, s3_rights])
def test_old_snapshots_go_where_the_device_has_the_right(
    device: AgentProcess,
    backend: Backend,
    started: Started,
    rights: Callable[[str], list[dict[str, Any]]],
    tmp_path: Path,
) -> None:
    """With the recommended rights, nothing happens, and `status` says why."""
    may = rights is all_rights
    with s3(tmp_path / "server", rights) as kept:
        kept.configure(device)
        agent = started(retention={"keepLast": 1})
        for number in range(3):
            (agent.data / "large").write_bytes(os.urandom(300_000))
            assert backup(backend, f"X{number}")["state"] == "BACKUP_FINISHED"
        ask = partial(restic, kept.repository(tmp_path), environment=kept.environment)
        before = json.loads(ask("snapshots", "--json", "--no-lock"))
        (told,) = json.loads(run(agent, "prune", "--json").stdout)["places"][-1:]
        removed = [each["id"] for each in before[:2]] if may else []
        assert (told["place"], told["removed"], told["failed"]) == ("store night", removed, False)
        assert (told["freed"] > 300_000) == may
        stands = backend.ask("status", {}, request_id="s")["value"].get("retention", {})
        assert ("no right to remove" in stands.get("store night", "")) == (not may)
        left = json.loads(ask("snapshots", "--json", "--no-lock"))
        assert left == (before[2:] if may else before)
        ask("check", "--read-data")  # nobody left a lock
