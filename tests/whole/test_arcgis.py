"""Document 002 over the real server, as scripts of ArcGIS administrators speak it."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from tests.support.api_client import ApiClient, Reply
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.waiting import wait_until

from .conftest import Started

FORM = "application/x-www-form-urlencoded"
CREATE = "/context/admin/system/disasterrecovery/stores/backupsDefault/backups/create"
STORES = "/context/admin/system/disasterrecovery/stores"
EXAMPLE = (
    "name=backup_first&passcode=passcode&description=&retentionDate=1635945710988&f=pjson&token="
    "HRozb6bnTL6gfA-SJO-IxhfLgJrioK1KJdMLWmCE5HjHWz9U3fOiFv3-HkgPZqsLljTkk2WDENGt5fjho5s39e_mZL5At60Uv"
    "JPoNnC5O2sv2HTlumG7TsYfbtnokpWmS6-lf8XoQpSKusZwmxIkEMP-yE0Wxrj8o9sWKi29J-pxzkoCDhoUfdLt6NnBWxhESp"
    "egh8BzNcEruqxuDQD-JRmaTsbRDaBHTQTePMzQePhXl7KcEG9Cfkw2sa7P1W1e"
)
HOST = "organization.domain.com"
EVIL = "<img src=x onerror=alert(1)>\"'&"


@pytest.fixture
def stores(device: LocalAgent, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "disk").mkdir()
    return {
        "targets": {"disk": {"path": str(tmp_path / "disk")}},
        "stores": {"backupsDefault": {"provider": "local", "options": {"local.target": "disk"}}},
    }


@pytest.fixture
def arcgis(started: Started, stores: dict[str, Any]) -> ApiClient:
    return client(started(**stores))


def client(agent: LocalAgent) -> ApiClient:
    return ApiClient(agent.storage / "http.sock", "")


def create(arcgis: ApiClient, *, path: str = CREATE, text: str | None = None, **fields: str) -> Reply:
    """Send a form: that of a good request, changed by `fields`; an empty text leaves one out."""
    good = {"name": "backup_first", "passcode": "passcode", "f": "json"}
    body = urlencode({key: value for key, value in (good | fields).items() if value})
    return arcgis.send("POST", path, (text or body).encode(), Content_Type=FORM)


def error_of(answer: Reply) -> tuple[int, str]:
    error = answer.value["error"]
    assert set(error) == {"code", "message", "details"}
    assert (error["code"], error["details"]) == (answer.status, [])
    return error["code"], error["message"]


def ended(arcgis: ApiClient, job_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def look() -> bool:
        found.update(arcgis.get(f"/context/admin/jobs/{job_id}?f=json").value)
        return found["status"] not in ("SUBMITTED", "EXECUTING")

    wait_until(look, what="the end of the job")
    return found


def test_the_example_of_the_document_byte_for_byte(arcgis: ApiClient, tmp_path: Path) -> None:
    """Its retention date is long past: it is taken, and its answer has the document's form."""
    answer = arcgis.send("POST", CREATE, EXAMPLE.encode(), Content_Type=FORM, Host=HOST)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    job_id = answer.value["jobid"]
    assert re.fullmatch(r"j[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", job_id)
    assert answer.body.decode() == (
        "{\n"
        f'  "jobsUrl": "http://{HOST}/context/admin/jobs/{job_id}",\n'
        f'  "jobid": "{job_id}",\n'
        '  "status": "SUBMITTED"\n'
        "}"
    )
    job = arcgis.get(f"{urlsplit(answer.value['jobsUrl']).path}?f=json").value
    assert set(job) == {"jobid", "status", "progress", "message"}
    assert ended(arcgis, job_id) == {"jobid": job_id, "status": "SUCCEEDED", "progress": 100, "message": ""}
    (archive,) = (tmp_path / "disk").iterdir()
    assert archive.name.startswith("backup_first-")
    assert archive.read_bytes().startswith(b"age-encryption.org/v1")


def test_the_backup_opens_with_its_passcode(
    arcgis: ApiClient, backend: LocalBackend, device: LocalAgent
) -> None:
    ended(arcgis, create(arcgis, passcode="päss wörd&=+").value["jobid"])
    (device.data / "start.sh").write_text("changed")
    options = {"restore.store": "backupsDefault", "restore.passcode": "päss wörd&=+"}
    assert backend.run("restore", "r", options)["state"] == "RESTORE_FINISHED"
    assert (device.data / "start.sh").read_text() != "changed"


def test_each_parameter_of_the_document_is_taken(arcgis: ApiClient) -> None:
    """With the values of its table: the store may be named in the form, too."""
    answer = create(arcgis, name="backup", storeName="backupsDefault", retentionDate="1635945710988")
    assert ended(arcgis, answer.value["jobid"])["status"] == "SUCCEEDED"


def test_the_stores_are_listed(arcgis: ApiClient) -> None:
    """Targets count as stores, so that a device with default settings has one."""
    answer = arcgis.get(f"{STORES}?f=json")
    assert answer.value == {
        "backupStores": [
            {"name": "backupsDefault", "type": "local", "default": False},
            {"name": "disk", "type": "local", "default": True},
        ]
    }


def test_a_device_without_settings_has_a_store(agent: LocalAgent) -> None:
    arcgis = client(agent)
    assert [each["name"] for each in arcgis.get(f"{STORES}?f=json").value["backupStores"]] == ["device"]
    answer = create(arcgis, path=CREATE.replace("backupsDefault", "device"))
    assert ended(arcgis, answer.value["jobid"])["status"] == "SUCCEEDED"


def test_the_backups_of_a_store_are_listed(arcgis: ApiClient) -> None:
    job_id = create(arcgis, description="before & after", retentionDate="4102444800000").value["jobid"]
    ended(arcgis, job_id)
    (backup,) = arcgis.get(f"{STORES}/backupsDefault/backups?f=json").value["backups"]
    assert backup["file"].startswith("backup_first-")
    assert backup["file"].endswith(".zip.age")
    assert backup["size"] > 0
    assert backup["startTime"] <= backup["completeTime"]
    shown = {key: backup[key] for key in ("name", "description", "backupStore", "retentionDate", "status")}
    assert shown == {
        "name": "backup_first",
        "description": "before & after",
        "backupStore": "backupsDefault",
        "retentionDate": 4102444800000,
        "status": "completed",
    }
    assert arcgis.get(f"{STORES}/disk/backups?f=json").value == {"backups": []}


@pytest.mark.parametrize("date", ["", "-1"])
def test_a_backup_without_a_retention_date_never_expires(arcgis: ApiClient, date: str) -> None:
    ended(arcgis, create(arcgis, retentionDate=date).value["jobid"])
    (backup,) = arcgis.get(f"{STORES}/backupsDefault/backups?f=json").value["backups"]
    assert backup["retentionDate"] == -1


def test_a_past_retention_date_counts_at_the_next_clean_up(
    arcgis: ApiClient, device: LocalAgent, tmp_path: Path
) -> None:
    """The backup stays until then, and for ever while it is the last good one of its source."""
    api = ApiClient(device.storage / "http.sock")
    for _ in range(2):
        ended(arcgis, create(arcgis, retentionDate="1635945710988").value["jobid"])
    assert len(list((tmp_path / "disk").iterdir())) == 2
    assert api.post("/prune", {}).status == 200
    (left,) = (tmp_path / "disk").iterdir()
    (backup,) = arcgis.get(f"{STORES}/backupsDefault/backups?f=json").value["backups"]
    assert backup["file"] == left.name
    assert api.post("/prune", {}).status == 200
    assert left.exists()


@pytest.mark.parametrize("prefix", ["", "/admin", "/context/admin", "/arcgis/admin"])
def test_any_context_may_stand_before_the_paths(arcgis: ApiClient, prefix: str) -> None:
    path = CREATE.removeprefix("/context/admin")
    answer = create(arcgis, path=f"{prefix}{path}")
    assert urlsplit(answer.value["jobsUrl"]).path == f"{prefix}/jobs/{answer.value['jobid']}"
    assert arcgis.get(f"{prefix}/jobs/{answer.value['jobid']}?f=json").status == 200
    assert arcgis.get(f"{prefix}/system/disasterrecovery/stores?f=json").status == 200


def test_behind_a_web_server_with_tls_the_url_of_the_job_has_tls(arcgis: ApiClient) -> None:
    """Its client would send the token without TLS, or find nobody there."""
    form = b"name=backup_first&passcode=passcode&f=json"
    answer = arcgis.send("POST", CREATE, form, Content_Type=FORM, X_Forwarded_Proto="https")
    assert answer.value["jobsUrl"] == f"https://localhost/context/admin/jobs/{answer.value['jobid']}"


def test_without_f_the_answer_is_html(arcgis: ApiClient) -> None:
    answer = create(arcgis, f="")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    (job_id,) = re.findall(r"<dt>jobid</dt><dd>(j[^<]+)</dd>", answer.body.decode())
    assert ended(arcgis, job_id)["status"] == "SUCCEEDED"
    for path in (STORES, f"{STORES}/backupsDefault/backups", f"/context/admin/jobs/{job_id}"):
        assert arcgis.get(path).body == arcgis.get(f"{path}?f=html").body
    assert "SUCCEEDED" in arcgis.get(f"/context/admin/jobs/{job_id}").body.decode()


def test_pjson_is_indented_and_json_is_not(arcgis: ApiClient) -> None:
    value = arcgis.get(f"{STORES}?f=json").value
    assert arcgis.get(f"{STORES}?f=pjson").body.decode() == json.dumps(value, indent=2)
    assert arcgis.get(f"{STORES}?f=json").body.decode() == json.dumps(value, separators=(",", ":"))


def test_the_format_may_stand_in_the_query_of_a_post(arcgis: ApiClient) -> None:
    assert create(arcgis, path=f"{CREATE}?f=json", f="").value["status"] == "SUBMITTED"


def test_html_shows_hostile_text_as_text(arcgis: ApiClient) -> None:
    """A description, a store in the path and a host may be anything."""
    ended(arcgis, create(arcgis, description=EVIL).value["jobid"])
    shown = arcgis.get(f"{STORES}/backupsDefault/backups").body.decode()
    unknown = arcgis.get(f"{STORES}/%3Cimg%20src=x%20onerror=alert(1)%3E%22/backups").body.decode()
    for page in (shown, unknown):
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "<img" not in page
    host = create(arcgis, f="", passcode="").body.decode()
    assert "<img" not in host
    answer = arcgis.send("POST", CREATE, b"name=x&passcode=passcode", Content_Type=FORM, Host="<img>")
    assert "<img" not in answer.body.decode()


def test_a_job_that_runs_and_is_cancelled(started: Started, stores: dict[str, Any]) -> None:
    agent = started(**stores, backupCmd="sleep 600")
    arcgis = client(agent)
    job_id = create(arcgis).value["jobid"]
    wait_until(
        lambda: arcgis.get(f"/context/admin/jobs/{job_id}?f=json").value["status"] == "EXECUTING",
        what="the job to run",
    )
    code, message = error_of(create(arcgis))
    assert (code, "in progress" in message) == (409, True)
    assert ApiClient(agent.storage / "http.sock").post(f"/jobs/{job_id}/cancel").status == 204
    assert ended(arcgis, job_id)["status"] == "CANCELLED"


def test_a_job_that_fails_says_why(started: Started, stores: dict[str, Any]) -> None:
    arcgis = client(started(**stores, backupCmd="false"))
    job = ended(arcgis, create(arcgis).value["jobid"])
    assert (job["status"], job["progress"]) == ("FAILED", None)
    assert "backupCmd" in job["message"]


BAD: list[tuple[dict[str, str], int, str]] = [
    ({"name": ""}, 400, "'name' is missing"),
    ({"passcode": ""}, 400, "'passcode' is missing"),
    ({"passcode": "seven77"}, 400, "'passcode' must have at least 8 characters"),
    ({"name": "a/b"}, 400, "'name' must be 1 to 64 letters"),
    ({"description": "x" * 1001}, 400, "'description' must not have more than 1000"),
    ({"retentionDate": "tomorrow"}, 400, "'retentionDate' must be milliseconds since 1970"),
    ({"retentionDate": "-2"}, 400, "'retentionDate' must be milliseconds since 1970"),
    ({"retentionDate": "9" * 15}, 400, "'retentionDate' must be milliseconds since 1970"),
    ({"storeName": "attic"}, 400, "different stores"),
    ({"pascode": "x"}, 400, "'pascode' is unknown"),
    ({"path": CREATE.replace("backupsDefault", "attic")}, 404, "backupsDefault, disk"),
    ({"path": f"{CREATE}?f=json&passcode=passcode"}, 400, "'passcode' is unknown"),
    ({"text": "f=json&name=a&name=b&passcode=passcode"}, 400, "twice"),
    ({"text": "f=json&name=%FF&passcode=passcode"}, 400, "UTF-8"),
]


@pytest.mark.parametrize(("wrong", "status", "says"), BAD)
def test_a_bad_request_is_refused_in_the_document_s_form(
    arcgis: ApiClient, wrong: dict[str, str], status: int, says: str
) -> None:
    wrong = {**wrong, "path": wrong.get("path", f"{CREATE}?f=json")}
    code, message = error_of(create(arcgis, **wrong))
    assert code == status
    assert says in message


def test_an_unknown_format_begins_no_backup(arcgis: ApiClient) -> None:
    answer = create(arcgis, f="xml")
    assert (answer.status, "html, json, pjson" in answer.body.decode()) == (400, True)
    assert arcgis.get(f"{STORES}/backupsDefault/backups?f=json").value == {"backups": []}


@pytest.mark.parametrize("kind", ["application/json", "text/plain", "multipart/form-data; boundary=x"])
def test_a_body_that_is_no_form_is_refused(arcgis: ApiClient, kind: str) -> None:
    answer = arcgis.send("POST", f"{CREATE}?f=json", b"{}", Content_Type=kind)
    assert error_of(answer) == (415, f"the body must have the content type {FORM}")


def test_an_unknown_job_is_a_404(arcgis: ApiClient) -> None:
    code, _ = error_of(arcgis.get("/context/admin/jobs/j7d22f855?f=json"))
    assert code == 404


def test_only_post_creates(arcgis: ApiClient) -> None:
    """A GET has no effect, and no passcode belongs into a URL."""
    answer = arcgis.get(f"{CREATE}?name=x&passcode=passcode&f=json")
    assert error_of(answer)[0] == 405
    assert answer.headers["allow"] == "POST"


def test_other_parameters_of_a_get_are_refused(arcgis: ApiClient) -> None:
    assert error_of(arcgis.get(f"{STORES}?f=json&name=x"))[0] == 400
    assert arcgis.get(f"{STORES}?f=json&token=HRozb6bnTL6gfA").status == 200
