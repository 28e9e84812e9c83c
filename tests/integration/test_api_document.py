"""The examples of Kanto's file backup API document, byte for byte over a real broker."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.agent_process import AgentProcess
from tests.support.backend import FEATURE, LAST_UPLOAD, Backend
from tests.support.trees import differences, make_tree
from tests.support.waiting import wait_until

from .conftest import SAMPLE, contents

BACKUP = """{
	"topic":"edge/device/things/live/messages/backup",
	"headers":{
		"response-required":true,
		"content-type":"application/json",
		"correlation-id":"<UUID>"
	},
	"path":"/features/BackupAndRestore/inbox/messages/backup",
	"value":{
		"correlationID":"upload-id-1704439450#n",
		"providers":{},
		"options":{
			"backup.dir":"/var/tmp/backup",
			"https.url":""
		}
	}
}"""
RESTORE = """{
	"topic":"edge/device/things/live/messages/restore",
	"headers":{
		"response-required":true,
		"content-type":"application/json",
		"correlation-id":"<UUID>"
	},
	"path":"/features/BackupAndRestore/inbox/messages/restore",
	"value":{
		"correlationID":"upload-id-1704439450#n",
		"options":{
			"aws.access.key.id":"AWSACCESSKEYID",
			"aws.region":"eu-central-1",
			"aws.s3.bucket":"blob-upload-test",
			"aws.secret.access.key":"AWSSECRETACCESSKEY",
			"storage.provider":"aws"
		}
	}
}"""
DIRECTORY = Path("/var/tmp/backup")


@pytest.fixture
def documented_directory(device: AgentProcess) -> Iterator[Path]:
    """The directory that the document names, and a device that allows it."""
    if DIRECTORY.exists():
        pytest.skip(f"{DIRECTORY} exists and is not this test's")
    make_tree(DIRECTORY, SAMPLE)
    device.settings |= {"dir": str(DIRECTORY), "transfer.attempts": 1, "transfer.connectTimeout": "1s"}
    yield DIRECTORY
    shutil.rmtree(DIRECTORY, ignore_errors=True)


def test_the_documented_backup_is_staged_requested_and_uploaded(
    documented_directory: Path, device: AgentProcess, backend: Backend, tmp_path: Path
) -> None:
    """Without a destination: ready, requested, started, stored; and what was stored restores."""
    before = contents(documented_directory)
    device.start()
    backend.announced()
    backend.publish("command//edge:device/req//backup", BACKUP)
    assert backend.wait(lambda m: m[0] == "command//edge:device/res//backup")[1] == {
        "topic": "edge/device/things/live/messages/backup",
        "headers": {"content-type": "application/json", "correlation-id": "<UUID>"},
        "path": f"{FEATURE}/outbox/messages/backup",
        "status": 204,
    }
    assert backend.ended("upload-id-1704439450#n")["state"] == "BACKUP_FINISHED"
    request = backend.wait(lambda m: m[1]["path"] == f"{FEATURE}/outbox/messages/request")[1]
    path = request["value"]["options"]["file.path"]
    assert request == {
        "topic": "edge/device/things/live/messages/request",
        "headers": {"content-type": "application/json", "reply-to": "command/t", "response-required": False},
        "path": f"{FEATURE}/outbox/messages/request",
        "value": {
            "correlationId": "upload-id-1704439450#n#1",
            "options": {"file.path": path, "storage.providers": "aws, azure, generic"},
        },
    }
    assert Path(path).is_file()

    start = {"correlationID": "upload-id-1704439450#n#1", "options": {"storage.provider": "local"}}
    assert backend.ask("start", start)["status"] == 204
    assert backend.ended("upload-id-1704439450#n", LAST_UPLOAD)["state"] == "SUCCESS"
    wait_until(lambda: not Path(path).exists(), what="the uploaded archive to be removed")

    shutil.rmtree(documented_directory / "config")
    restored = backend.run("restore", "back", {"storage.provider": "local"})
    assert restored["state"] == "RESTORE_FINISHED"
    assert differences(before, contents(documented_directory)) == []


def test_the_documented_restore_is_tried_and_its_end_is_told(
    documented_directory: Path, device: AgentProcess, backend: Backend
) -> None:
    """Kanto refuses its own example; here it runs, and fails only because nobody answers for AWS here."""
    device.settings["transfer.proxy"] = "http://127.0.0.1:9"
    before = contents(documented_directory)
    device.start()
    backend.announced()
    backend.publish("command//edge:device/req//restore", RESTORE)
    answer = backend.wait(lambda m: m[0] == "command//edge:device/res//restore")[1]
    assert answer["status"] == 204, answer
    ended = backend.ended("upload-id-1704439450#n")
    assert (ended["state"], ended["statusCode"]) == ("RESTORE_FAILED", "unreachable")
    assert "AWSSECRETACCESSKEY" not in str(ended)
    assert differences(before, contents(documented_directory)) == []
