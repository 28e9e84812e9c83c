"""Scripts of administrators against the installed program over the network: 002 with forms, 004 with curl."""

import json
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import trustme

from tests.support.network_agent import TOKEN, NetworkAgent
from tests.support.require import require
from tests.support.trees import make_tree
from tests.support.waiting import wait_until

from .conftest import SAMPLE

EXAMPLE = """{
  "jobsUrl": "https://organization.domain.com/context/admin/jobs/j7d22f855-2c9f-4934-94e4-93c5e85cd271",
  "jobid": "j7d22f855-2c9f-4934-94e4-93c5e85cd271",
  "status": "SUBMITTED"
}"""
"""The answer in document 002."""
ADMIN = "/arcgis/admin/system/disasterrecovery/stores"


@pytest.fixture
def device(tmp_path: Path) -> Iterator[NetworkAgent]:
    device = NetworkAgent(tmp_path / "device")
    make_tree(device.data, SAMPLE)
    device.start()
    yield device
    if device.process and device.process.poll() is None:
        device.kill()


def ask(url: str, form: dict[str, str] | None = None) -> dict[str, Any]:
    """Ask as ArcGIS' own scripts do: urllib sends a form, and the token is one of its fields."""
    body = urlencode(form).encode() if form else None
    with urllib.request.urlopen(url, body, timeout=30) as answer:
        return dict(json.load(answer))


@pytest.mark.parametrize("form", ["json", "pjson"])
def test_a_script_backs_up_and_follows_the_job_s_url(device: NetworkAgent, form: str) -> None:
    """The URL in the answer is one that the client can open, with the token that it has."""
    fields = {"name": "nightly", "passcode": "correct horse", "f": form, "token": TOKEN}
    base = f"http://127.0.0.1:{device.port}{ADMIN}"
    job = ask(f"{base}/device/backups/create", fields)
    assert job["status"] == "SUBMITTED"
    query = urlencode({"f": form, "token": TOKEN})
    states: list[str] = []

    def over() -> bool:
        states.append(ask(f"{job['jobsUrl']}?{query}")["status"])
        return states[-1] not in ("SUBMITTED", "EXECUTING")

    wait_until(over, what="the end of the job")
    assert states[-1] == "SUCCEEDED"
    assert [each["name"] for each in ask(f"{base}?{query}")["backupStores"]] == ["device"]
    (backup,) = ask(f"{base}/device/backups?{query}")["backups"]
    assert (backup["name"], backup["backupStore"]) == ("nightly", "device")


def test_a_script_without_the_token_gets_the_document_s_error(device: NetworkAgent) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(f"http://127.0.0.1:{device.port}{ADMIN}?f=json")
    with refused.value as answer:
        assert json.load(answer)["error"]["code"] == 401


def test_curl_backs_up_as_eclypse_s_text_shows(device: NetworkAgent) -> None:
    require(shutil.which("curl") is not None, "curl (Debian package curl)")
    root = f"http://127.0.0.1:{device.port}/api/rest/v1"

    def curl(*arguments: str) -> tuple[int, dict[str, Any]]:
        command = ["curl", "-sS", "-H", f"Authorization: Bearer {TOKEN}", "-w", "\n%{http_code}", *arguments]
        done = subprocess.run(command, capture_output=True, check=True, timeout=30)
        body, _, status = done.stdout.decode().rpartition("\n")
        return int(status), dict(json.loads(body))

    assert curl(f"{root}/system/backup") == (200, {"dataTypes": [], "envysionProjects": []})
    body = json.dumps({"target": "UsbKey", "fileName": "GYM24"})
    kind = ("-H", "Content-Type: application/json")
    status, _ = curl(*kind, "-d", body, f"{root}/system/backup/create")
    assert status == 400
    status, _ = curl("-H", "Content-Type:", "-d", body, f"{root}/system/backup/create")
    assert status == 415
    status, answer = curl(*kind, "-d", body.replace("UsbKey", "Device"), f"{root}/system/backup/create")
    assert status == 200
    job = f"{root}/jobs/{answer['JobId']}"
    wait_until(lambda: curl(job)[1]["Status"] == "DONE", what="the end of the job")


def test_the_answer_of_002_over_tls_is_that_of_the_document(tmp_path: Path) -> None:
    """Byte for byte, but for the id: the request's own host and scheme are in the URL of the job."""
    host = "organization.domain.com"
    authority = trustme.CA()
    authority.issue_cert(host, "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "device.pem"
    )
    both = str(tmp_path / "device.pem")
    device = NetworkAgent(tmp_path / "device", **{"http.cert": both, "http.key": both, "http.hosts": host})
    make_tree(device.data, SAMPLE)
    device.start()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    form = {"name": "backup_first", "passcode": "passcode", "description": "", "f": "pjson", "token": TOKEN}
    body = urlencode({**form, "retentionDate": "1635945710988"}).encode()
    path = "/context/admin/system/disasterrecovery/stores/device/backups/create"
    request = urllib.request.Request(f"https://127.0.0.1:{device.port}{path}", body, {"Host": host})
    try:
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            text = answer.read().decode()
    finally:
        device.kill()
    job_id = json.loads(text)["jobid"]
    assert text.replace(job_id, "j7d22f855-2c9f-4934-94e4-93c5e85cd271") == EXAMPLE
