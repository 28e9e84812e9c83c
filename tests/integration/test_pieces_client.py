"""The published Python client of document 003 against the installed program: written by others."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pieces_os_client.api.backup_api import BackupApi
from pieces_os_client.api.backups_api import BackupsApi
from pieces_os_client.api_client import ApiClient
from pieces_os_client.configuration import Configuration
from pieces_os_client.exceptions import (
    ApiException,
    ConflictException,
    ServiceException,
    UnauthorizedException,
)
from pieces_os_client.models.asset import Asset
from pieces_os_client.models.assets import Assets
from pieces_os_client.models.backup import Backup
from pieces_os_client.models.backup_status import BackupStatus
from pieces_os_client.models.backup_status_enum import BackupStatusEnum
from pieces_os_client.models.backup_streamed_progress import BackupStreamedProgress
from pieces_os_client.models.formats import Formats
from pieces_os_client.models.grouped_timestamp import GroupedTimestamp
from pieces_os_client.models.mechanism_enum import MechanismEnum
from pieces_os_client.models.model_download_progress_status_enum import ModelDownloadProgressStatusEnum
from pieces_os_client.models.preview import Preview
from pieces_os_client.models.referenced_format import ReferencedFormat

from tests.support.network_agent import TOKEN, NetworkAgent
from tests.support.trees import make_tree
from tests.support.waiting import wait_until

from .conftest import SAMPLE

HOURS = "sleep 600"
RUNS = (BackupStatusEnum.INITIALIZED, BackupStatusEnum.IN_MINUS_PROGRESS)


class Client:
    """Both APIs of the published client, with the token as a default header."""

    def __init__(self, port: int, token: str = TOKEN) -> None:
        configuration = Configuration(host=f"http://127.0.0.1:{port}")
        api_client = ApiClient(configuration, "Authorization", f"Bearer {token}")
        self.backup, self.backups = BackupApi(api_client), BackupsApi(api_client)

    def listed(self) -> list[Backup]:
        return list(self.backups.backups_snapshot().iterable)

    def made(self, assets: Assets | None = None) -> Backup:
        """Make a backup, and return it as it is at its end."""
        self.backup.backup(assets)
        identifier = self.listed()[0].id
        assert self.created(identifier).value is BackupStatusEnum.COMPLETED
        return self.backup.backup_specific_backup_snapshot(identifier)

    def created(self, identifier: str) -> BackupStatus:
        return self._ended(lambda: self.backup.backup_specific_creation_status(identifier))

    def restored(self, identifier: str) -> BackupStatus:
        return self._ended(lambda: self.backup.backup_specific_restoration_status(identifier))

    def _ended(self, look: Callable[[], BackupStatus]) -> BackupStatus:
        found: list[BackupStatus] = []

        def over() -> bool:
            found[:] = [look()]
            return found[0].value not in RUNS

        wait_until(over, what="the end of the job")
        return found[0]


@pytest.fixture
def device(tmp_path: Path) -> Iterator[NetworkAgent]:
    """A device that is not started yet."""
    device = NetworkAgent(tmp_path / "device")
    make_tree(device.data, SAMPLE)
    yield device
    if device.process and device.process.poll() is None:
        device.kill()


def started(device: NetworkAgent, **settings: str) -> Client:
    device.settings |= settings
    device.start()
    return Client(device.port)


def asset(identifier: str) -> Asset:
    """An asset with all members that the client's model requires."""
    now = GroupedTimestamp(value=datetime.now(UTC))
    reference = ReferencedFormat(id="format")
    return Asset(
        id=identifier, created=now, updated=now, creator="tests", mechanism=MechanismEnum.MANUAL,
        formats=Formats(iterable=[]), original=reference, preview=Preview(base=reference),
    )  # fmt: skip


def test_a_backup_is_made_listed_shown_and_followed(device: NetworkAgent) -> None:
    client = started(device)
    assert client.listed() == []
    backup = client.made()
    assert backup.id == f"{backup.version}_{backup.timestamp}"
    assert (backup.device_name, backup.platform.value) == ("edge:device", "LINUX")
    assert backup.bytes == sum(path.stat().st_size for path in (device.storage / "archives").iterdir())
    assert abs((datetime.now(UTC) - backup.created.value).total_seconds()) < 3600
    backups = client.backups.backups_snapshot()
    assert (backups.iterable, backups.indices) == ([backup], {backup.id: 0})
    status = client.backup.backup_specific_creation_status(backup.id)
    assert (status.backup, status.percentage, status.value) == (backup, 100, BackupStatusEnum.COMPLETED)


def test_assets_are_saved_alone(device: NetworkAgent) -> None:
    client = started(device)
    client.backup.backup_asset(asset("config/app.json"))
    assert client.created(client.listed()[0].id).value is BackupStatusEnum.COMPLETED
    client.made(Assets(iterable=[asset("config"), asset("start.sh")]))
    client.made(Assets(iterable=[]))
    counts = [line["files"] for line in device.log_lines() if line["event"] == "backup finished"]
    assert counts == [1, 3, 4]


def test_a_creation_is_cancelled(device: NetworkAgent) -> None:
    client = started(device, backupCmd=HOURS)
    client.backup.backup()
    (backup,) = client.listed()
    assert client.backup.backup_specific_creation_status(backup.id).value in RUNS
    with pytest.raises(ConflictException):
        client.backup.backup()
    client.backup.backup_specific_creation_cancel(backup.id)
    assert client.created(backup.id).value is BackupStatusEnum.CANCELED
    with pytest.raises(ServiceException) as refused:
        client.backup.backup_specific_creation_cancel(backup.id)
    assert (refused.value.status, refused.value.data) == (500, "this backup is not in progress")


def test_a_backup_is_restored(device: NetworkAgent) -> None:
    client = started(device)
    backup = client.made()
    (device.data / "start.sh").write_text("changed")
    assert client.backup.backup_restore_specific_backup(backup.id, backup) == backup
    assert client.restored(backup.id).value is BackupStatusEnum.COMPLETED
    assert (device.data / "start.sh").read_text() != "changed"


def test_a_restoration_is_cancelled(device: NetworkAgent) -> None:
    client = started(device, beforeRestoreCmd=HOURS)
    backup = client.made()
    (device.data / "start.sh").write_text("changed")
    client.backup.backup_restore_specific_backup(backup.id, backup)
    assert client.backup.backup_specific_restoration_status(backup.id).value in RUNS
    client.backup.backup_specific_restoration_cancel(backup.id, backup)
    assert client.restored(backup.id).value is BackupStatusEnum.CANCELED
    assert (device.data / "start.sh").read_text() == "changed"
    with pytest.raises(ServiceException, match="no restoration of this backup is in progress"):
        client.backup.backup_specific_restoration_cancel(backup.id, backup)


def test_a_streamed_restore_is_read_object_by_object(device: NetworkAgent) -> None:
    """The document says of its generated method that it is a place holder: the stream is read as it comes."""
    client = started(device)
    backup = client.made()
    response = client.backup.backup_restore_specific_backup_streamed_without_preload_content(
        backup.id, backup
    )
    assert response.status == 200
    decoder, text, told = json.JSONDecoder(), "", []
    for chunk in response.stream():
        text += chunk.decode()
        while text.strip():
            value, end = decoder.raw_decode(text.lstrip())
            told.append(BackupStreamedProgress.from_dict(value))
            text = text.lstrip()[end:]
    assert all(each and each.backup == backup for each in told)
    last = told[-1]
    assert last
    assert (last.percentage, last.status) == (100, ModelDownloadProgressStatusEnum.COMPLETED)


def test_what_is_not_there_is_told_as_a_text(device: NetworkAgent) -> None:
    client = started(device)
    for call in (
        client.backup.backup_specific_backup_snapshot,
        client.backup.backup_restore_specific_backup,
        client.backup.backup_specific_creation_status,
        client.backup.backup_specific_creation_cancel,
        client.backup.backup_specific_restoration_status,
        client.backup.backup_specific_restoration_cancel,
    ):
        with pytest.raises(ServiceException) as refused:
            call("1_2026-11-22T02:00:00.104211Z")
        assert refused.value.status == 500
        assert isinstance(refused.value.data, str)


def test_without_the_token_nothing_is_told(device: NetworkAgent) -> None:
    started(device)
    with pytest.raises(UnauthorizedException) as refused:
        Client(device.port, "wrong").listed()
    assert refused.value.headers
    assert refused.value.headers["Content-Type"] == "text/plain; charset=utf-8"
    with pytest.raises(ApiException):
        Client(device.port, "").backup.backup()


def test_the_example_of_the_documentation_works(device: NetworkAgent) -> None:
    """As it stands, but for the device's address and its token."""
    text = (Path(__file__).parents[2] / "docs" / "documents.md").read_text("utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    client = started(device)
    here = {"https://device.example:8765": f"http://127.0.0.1:{device.port}", "<token>": TOKEN}
    for word, its in here.items():
        assert word in example
        example = example.replace(word, its)
    example = example.replace(', ssl_ca_cert="device.pem"', "")
    exec(compile(example, "documents.md", "exec"), {})
    assert client.created(client.listed()[0].id).value is BackupStatusEnum.COMPLETED
