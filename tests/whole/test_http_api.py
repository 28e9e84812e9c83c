"""The API over the real server: the whole agent in this process, and a client on its Unix socket."""

import select
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.faces.http import connection
from tests.support.api_client import ApiClient, Event, UnixConnection
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.waiting import wait_until

from .conftest import Started

LOCAL = {"storage.provider": "local"}
SAVED = {**LOCAL, "local.name": "it.zip"}


@pytest.fixture
def api(agent: LocalAgent) -> ApiClient:
    return ApiClient(agent.storage / "http.sock")


def begin(api: ApiClient, operation: str, options: dict[str, Any], **members: Any) -> str:
    """Begin a job and return its id."""
    reply = api.post("/jobs", {"operation": operation, "options": options, **members})
    assert reply.status == 202, reply
    assert reply.headers["location"] == f"/api/v1/jobs/{reply.value['id']}"
    return str(reply.value["id"])


def run(api: ApiClient, operation: str, options: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Begin a job, and return it as it has ended."""
    *_, end = told(api, begin(api, operation, options, **members))
    return dict(end.value["job"])


def told(api: ApiClient, job_id: str) -> list[Event]:
    with api.events(f"/jobs/{job_id}/events") as events:
        return list(events)


# Jobs


def test_a_job_is_begun_followed_and_shown(api: ApiClient, backend: LocalBackend) -> None:
    job_id = begin(api, "backup", LOCAL, correlationId="one")
    events = told(api, job_id)
    assert [events[0].name, events[-2].name, events[-1].name] == ["jobStarted", "jobEnded", "end"]
    assert {event.value["job"]["id"] for event in events} == {job_id}
    numbers = [int(event.id.partition(".")[2]) for event in events]
    assert numbers == sorted(numbers)
    job = api.get(f"/jobs/{job_id}").value
    assert job == events[-1].value["job"] == api.get("/jobs/one").value
    assert (job["state"], job["correlationId"], job["files"]) == ("FINISHED", "one", 4)
    assert job == backend.ask("describe", {"correlationId": "one"})["value"]


def test_while_a_job_runs_it_is_shown_and_another_is_refused(started: Started) -> None:
    agent = started(backupCmd="sleep 600")
    api = ApiClient(agent.storage / "http.sock")
    job_id = begin(api, "backup", LOCAL)
    busy = api.post("/jobs", {"operation": "backup"})
    assert (busy.status, busy.headers["retry-after"]) == (409, "10")
    assert busy.detail == "Backup operation is currently in progress!"
    shown = api.get(f"/jobs/{job_id}").value
    assert (shown["id"], shown["state"]) == (job_id, "STARTED")
    assert api.get("/status").value["job"]["id"] == job_id
    assert [job["id"] for job in api.get("/jobs").value["jobs"]] == [job_id]
    assert api.post(f"/jobs/{job_id}/cancel", {"message": "enough"}).status == 204
    *_, end = told(api, job_id)
    assert (end.value["job"]["statusCode"], end.value["job"]["message"]) == ("cancelled", "enough")


def test_the_history_comes_in_pages(api: ApiClient) -> None:
    ids = [run(api, "backup", LOCAL)["id"] for _ in range(3)]
    first = api.get("/jobs?limit=2").value
    assert [job["id"] for job in first["jobs"]] == [ids[2], ids[1]]
    second = api.get(f"/jobs?limit=2&before={first['next']}").value
    assert ([job["id"] for job in second["jobs"]], "next" in second) == ([ids[0]], False)
    assert api.get("/jobs?before=nix").status == 404


def test_a_preview_is_a_job_and_can_be_discarded(api: ApiClient, agent: LocalAgent) -> None:
    run(api, "backup", SAVED)
    (agent.data / "start.sh").write_text("changed")
    job_id = begin(api, "restore", SAVED | {"restore.preview": True})
    *_, end = told(api, job_id)
    preview = end.value["job"]
    assert (preview["state"], preview["preview"]["state"]) == ("PREVIEW", "waiting")
    assert preview["preview"]["changed"] == 1
    assert api.get("/jobs").value["jobs"][0]["id"] == job_id
    assert api.post(f"/jobs/{job_id}/discard").status == 204
    assert api.post(f"/jobs/{job_id}/finalize").status == 404


def test_a_preview_is_finalized_and_confirmed(api: ApiClient, agent: LocalAgent) -> None:
    run(api, "backup", SAVED)
    (agent.data / "start.sh").write_text("changed")
    job_id = begin(api, "restore", SAVED | {"restore.preview": True})
    told(api, job_id)
    finalized = api.post(f"/jobs/{job_id}/finalize", {"confirmWithin": "5m"})
    assert (finalized.status, finalized.value["id"]) == (202, job_id)
    wait_until(lambda: api.post(f"/jobs/{job_id}/confirm").status == 204, what="a restore to confirm")
    *_, end = told(api, job_id)
    assert end.value["job"]["state"] == "FINISHED"
    assert (agent.data / "start.sh").read_text().endswith("exec ./app\n")


def test_an_output_file_is_named_over_the_socket(api: ApiClient, tmp_path: Path) -> None:
    output = tmp_path / "mine.zip"
    assert run(api, "backup", {}, output=str(output))["place"].endswith("mine.zip")
    assert output.exists()


# What cannot be


@pytest.mark.parametrize(
    ("path", "value", "detail"),
    [
        ("/jobs", {"operation": "backup", "dir": "x"},
         "unknown field 'dir': expected operation or correlationId or options or output"),
        ("/jobs", {"operation": "start"}, "'operation': Input should be 'backup', 'restore' or 'verify'"),
        ("/jobs", {}, "'operation': Field required"),
        ("/jobs", {"operation": "backup", "correlationId": 7}, "'correlationId': Input should be a"),
        ("/jobs", {"operation": "backup", "options": {"backup.nix": "x"}},
         "invalid 'backup' parameters: unknown option 'backup.nix'"),
        ("/jobs", [1], "the body must be one JSON object in UTF-8"),
        ("/schedule/activate", {"from": "yesterday"}, "invalid 'activate' parameters: "),
        ("/schedule/deactivate", {"x": 1}, "unknown field 'x': expected none"),
        ("/jobs?operation=backup", None, "this request takes its arguments in the body, not in the query"),
        ("/prune", {"dryRun": "yes"}, "'dryRun': Input should be a valid boolean"),
    ],
)  # fmt: skip
def test_a_wrong_member_is_refused_by_its_name(api: ApiClient, path: str, value: Any, detail: str) -> None:
    refused = api.post(path, value)
    assert refused.status == 400
    assert refused.detail.startswith(detail)


def test_a_wrong_query_type_or_method_is_refused(api: ApiClient) -> None:
    assert api.get("/jobs?limit=0").detail == "'limit': Input should be greater than or equal to 1"
    assert api.get("/jobs?x=1").detail == "unknown field 'x': expected before or limit"
    form = api.send("POST", "/jobs", b"operation=backup", Content_Type="application/x-www-form-urlencoded")
    assert (form.status, "application/json" in form.detail) == (415, True)
    assert api.send("POST", "/jobs", b"{", Content_Type="application/json; charset=utf-8").status == 400
    method = api.send("PUT", "/status", None)
    assert (method.status, method.headers["allow"]) == (405, "GET, HEAD")
    assert api.get("/nix").status == api.get("/jobs/nix").status == api.get("/jobs/nix/events").status == 404


@pytest.mark.parametrize("path", ["/jobs/{}", "/jobs/{}/events", "/archives/{}/a.zip", "/archives/device/{}"])
def test_an_id_or_name_that_is_no_utf_8_is_not_found(api: ApiClient, path: str) -> None:
    """The journal cannot even ask for it."""
    assert api.get(path.format("%ff")).status in (400, 404)
    if "/events" not in path and "jobs" in path:
        assert api.post(f"{path.format('%FF')}/cancel").status == 404


def test_no_refusal_repeats_a_secret(api: ApiClient) -> None:
    """Also a member of a wrong type may be one."""
    for value in ({"passcode": "hunter2-x"}, {"options": {"backup.passcode": {"x": "hunter2-x"}}}):
        refused = api.post("/jobs", {"operation": "backup", **value})
        assert (refused.status, b"hunter2" in refused.body) == (400, False)


def test_nobody_else_may_open_the_socket(agent: LocalAgent) -> None:
    """Whoever opens it may read and replace all data."""
    assert stat.S_IMODE((agent.storage / "http.sock").stat().st_mode) == 0o600


# Events


def test_events_go_on_where_the_connection_broke(api: ApiClient) -> None:
    with api.events() as events:
        run(api, "backup", LOCAL)
        first = next(events)
        assert first.name == "jobStarted"
        rest = list(_until_idle(events))
    with api.events(last_id=first.id) as events:
        assert [event.id for event in _until_idle(events)][-1] == rest[-1].id
    run_id, _, number = rest[-1].id.partition(".")
    for unknown in (
        f"{run_id}.{int(number) + 1000}",
        "feedface.1",
        "nonsense",
        f"{run_id}.x",
        f"{run_id}." + "9" * 5000,
    ):
        with api.events(last_id=unknown) as events:
            assert next(events).name == "reset"


def test_a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it(
    api: ApiClient, agent: LocalAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It continues where it was, or is told that it missed something."""
    monkeypatch.setattr(connection, "SEND_S", 0.2)
    with closing(UnixConnection(agent.storage / "http.sock")) as slow, api.events() as events:
        slow.request("GET", "/api/v1/events")
        hung_up = select.poll()
        hung_up.register(slow.sock, select.POLLHUP)
        while not hung_up.poll(0):
            assert api.post("/schedule/activate", {"from": "2999-01-01T00:00:00Z"}).status == 204
            assert next(events).name == "scheduleChanged"


def _until_idle(events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        yield event
        if event.name == "jobProgressed" and event.value["job"] is None:
            return


# The device


def test_schedule_uploads_health_info_and_settings(api: ApiClient, backend: LocalBackend) -> None:
    assert api.get("/schedule").value["active"] is False
    with api.events() as events:
        assert api.post("/schedule/activate", {"from": "2999-01-01T00:00:00Z"}).status == 204
        assert next(events).value["schedule"]["from"] == "2999-01-01T00:00:00.000000Z"
    shown = api.get("/schedule").value
    assert (shown["active"], shown["next"], shown["to"]) == (True, "2999-01-01T00:00:00.000000Z", None)
    assert api.post("/schedule/deactivate").status == 204
    assert api.get("/schedule").value["active"] is False
    run(api, "backup", {}, correlationId="X")
    (upload,) = api.get("/uploads").value["uploads"]
    assert (upload["id"], upload["state"]) == ("X#1", "WAITING")
    assert api.post("/uploads/X%231/start", {"options": LOCAL}).status == 204
    wait_until(lambda: api.get("/uploads").value["uploads"] == [], what="the upload")
    assert api.post("/uploads/X%231/start", {"options": LOCAL}).status == 404
    assert api.get("/health").value["missed"] == 0
    assert api.get("/info").value["directory"]["files"] == 4
    assert api.get("/settings").value["mode"] == "scoped"
    assert api.post("/prune", {"dryRun": True}).value["running"] is False


def test_no_secret_is_among_the_settings(started: Started) -> None:
    agent = started(password="hunter2-x", **{"transfer.proxy": "http://u:hunter2-y@localhost:9"})
    body = ApiClient(agent.storage / "http.sock").get("/settings").body
    assert (b"hunter2" in body, b'"password":"***"' in body) == (False, True)


def test_stores_and_targets_say_whether_they_are_there(started: Started, tmp_path: Path) -> None:
    agent = started(
        targets={"device": {"path": str(tmp_path)}, "usb": {"path": "/nowhere/usb", "mount": True}},
        stores={
            "stick": {"provider": "local", "options": {"local.target": "usb"}},
            "cloud": {"provider": "generic", "options": {"https.url": "https://store.example/it.zip"}},
            "nightly": {"provider": "local", "format": "repository", "credentials": "/etc/nightly.json"},
        },
    )
    value = ApiClient(agent.storage / "http.sock").get("/stores").value
    device, usb = value["targets"]
    assert (device["name"], device["removable"], device["present"]) == ("device", False, True)
    assert device["freeBytes"] > 0
    assert (usb["name"], usb["removable"], usb["present"]) == ("usb", True, False)
    assert usb["problem"]
    assert value["stores"] == [
        {"name": "cloud", "provider": "generic", "nameOption": None},
        {
            "name": "nightly",
            "provider": "local",
            "nameOption": "restore.archive",
            "format": "repository",
            "target": "device",
        },
        {"name": "stick", "provider": "local", "nameOption": "local.name", "target": "usb"},
    ]
