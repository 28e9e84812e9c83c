"""Archives over the API: listed, looked into and downloaded, plain and encrypted."""

import http.client
import zipfile
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

import providers
from agent.faces.http.api import reading
from tests.integration.conftest import SAMPLE
from tests.support.age import age_key, private_key
from tests.support.api_client import ApiClient, Reply, UnixConnection
from tests.support.local_agent import LocalAgent
from tests.support.stalling import stalling
from tests.support.trees import File
from tests.support.waiting import wait_until

from .conftest import Started
from .test_http_api import LOCAL, begin, run

PASSCODE = "correct horse battery"


@pytest.fixture
def api(agent: LocalAgent) -> ApiClient:
    return ApiClient(agent.storage / "http.sock")


@pytest.fixture
def archive(api: ApiClient) -> str:
    """The path of an archive in the API."""
    return "/archives/device/" + quote(run(api, "backup", LOCAL)["archive"], safe="")


def names(page: Reply) -> list[str]:
    return [entry["name"] for entry in page.value["entries"]]


def test_archives_are_listed_by_store_newest_first(api: ApiClient) -> None:
    jobs = [run(api, "backup", LOCAL | {"backup.name": name}) for name in ("one", "two", "three")]
    made = [job["archive"] for job in jobs]
    first = api.get("/archives?store=device&limit=2").value
    assert [each["name"] for each in first["archives"]] == [made[2], made[1]]
    second = api.get(f"/archives?store=device&limit=2&after={first['next']}").value
    assert [each["name"] for each in second["archives"]] == [made[0]]
    assert "next" not in second
    assert api.get("/archives?store=device&after=gone.zip").status == 404
    newest = first["archives"][0]
    assert (newest["label"], newest["encrypted"], newest["files"]) == ("three", False, 4)
    assert newest["bytes"] == jobs[2]["archiveBytes"]
    unknown = api.get("/archives?store=nix")
    assert (unknown.status, unknown.detail) == (404, "no store 'nix': the device has device")


def test_an_archive_says_how_it_is_restored(api: ApiClient, archive: str, agent: LocalAgent) -> None:
    shown = api.get(archive).value
    assert shown["manifest"]["counts"]["files"] == 4
    (agent.data / "start.sh").unlink()
    assert run(api, "restore", shown["restore"])["state"] == "FINISHED"
    assert (agent.data / "start.sh").exists()
    assert api.get("/archives/device/nix.zip").status == 404


def test_a_store_of_the_settings_is_named_as_in_a_request(started: Started, tmp_path: Path) -> None:
    usb = {"path": str(tmp_path), "mount": False}
    store = {"provider": "local", "options": {"local.target": "usb"}}
    agent = started(targets={"usb": usb}, stores={"nightly": store})
    api = ApiClient(agent.storage / "http.sock")
    name = run(api, "backup", {"backup.store": "nightly"})["archive"]
    assert [each["name"] for each in api.get("/archives?store=nightly").value["archives"]] == [name]
    assert api.get(f"/archives/nightly/{name}").value["restore"] == {
        "restore.store": "nightly",
        "local.name": name,
    }


def test_files_are_listed_a_directory_and_a_page_at_a_time(api: ApiClient, archive: str) -> None:
    top = api.get(f"{archive}/files")
    assert sorted(names(top)) == ["config", "empty", "logs", "start.sh"]
    config = api.get(f"{archive}/files?path=config&limit=2")
    rest = api.get(f"{archive}/files?path=config&limit=2&after={config.value['next']}")
    assert (len(names(config)), "next" in rest.value) == (2, False)
    assert sorted(names(config) + names(rest)) == sorted(
        name for name in SAMPLE if name.startswith("config/")
    )
    assert names(api.get(f"{archive}/files?path=empty")) == []
    gone = api.get(f"{archive}/files?path=nix")
    assert (gone.status, gone.detail) == (404, "'nix' is not in the archive")


def test_a_file_is_downloaded_and_no_browser_shows_it(api: ApiClient, archive: str) -> None:
    for name, spec in SAMPLE.items():
        if isinstance(spec, File):
            reply = api.get(f"{archive}/files/content?path={quote(name)}")
            assert (reply.status, reply.body) == (200, spec.content)
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"] == "attachment; filename*=UTF-8''start.sh"
    assert reply.headers["content-security-policy"].startswith("sandbox")
    assert reply.headers["x-content-type-options"] == "nosniff"
    link = api.get(f"{archive}/files/content?path=config/current")
    assert (link.status, link.detail) == (404, "'config/current' is a link, which has no content")


def test_names_of_other_programs_are_listed_and_downloaded(api: ApiClient, agent: LocalAgent) -> None:
    """Without entries of directories, in any order, and with a name that is markup."""
    hostile = "a/<img src=x onerror=alert(1)>.html"
    directory = agent.storage / "archives" / "in"
    directory.mkdir(parents=True)
    with zipfile.ZipFile(directory / "foreign.zip", "w") as foreign:
        for name in ("a/b/c", "z", hostile, "a/b/d", "a/\n"):
            foreign.writestr(name, name)
    path = "/archives/device/in%2Fforeign.zip"
    assert names(api.get(f"{path}/files")) == ["a", "z"]
    assert names(api.get(f"{path}/files?path=a")) == ["a/b", hostile, "a/\\n"]
    reply = api.get(f"{path}/files/content?path={quote(hostile)}")
    assert (reply.body.decode(), reply.headers["content-type"]) == (hostile, "application/octet-stream")
    assert "<" not in reply.headers["content-disposition"]
    assert api.get(f"{path}/files/content?path=a/%5Cn").body == b"a/\n"
    assert api.get(path).value["manifest"] is None


def test_a_damaged_file_ends_the_connection_before_its_end(api: ApiClient, agent: LocalAgent) -> None:
    """A client that got all announced bytes would take them for the file."""
    content = bytes(range(256)) * 4096
    path = agent.storage / "archives" / "damaged.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("f", content)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with closing(UnixConnection(agent.storage / "http.sock")) as connection:
        connection.request("GET", "/api/v1/archives/device/damaged.zip/files/content?path=f")
        response = connection.getresponse()
        assert int(response.headers["Content-Length"]) == len(content)
        with pytest.raises(http.client.IncompleteRead):
            response.read()
    agent.wait_for_log("download cut off")
    # Of a bug there would be a traceback: an archive that is damaged or was replaced is none.
    assert agent.count_log("answer broken off") == 0


# Encrypted


def test_an_encrypted_archive_is_opened_once_and_then_browsed(api: ApiClient, tmp_path: Path) -> None:
    name = run(api, "backup", LOCAL | {"backup.passcode": PASSCODE})["archive"]
    path = f"/archives/device/{name}"
    closed = api.get(path)
    assert (closed.status, "POST /api/v1/archives/{store}/open" in closed.detail) == (403, True)
    wrong = api.post("/archives/device/open", {"name": name, "passcode": "wrong horse battery"})
    assert (wrong.status, b"wrong horse" in wrong.body) == (403, False)
    opened = api.post("/archives/device/open", {"name": name, "passcode": PASSCODE}).value
    assert opened["seconds"] == 600
    handle = f"handle={opened['handle']}"
    assert api.get(f"{path}?{handle}").value["manifest"]["counts"]["files"] == 4
    assert sorted(names(api.get(f"{path}/files?{handle}"))) == ["config", "empty", "logs", "start.sh"]
    content = SAMPLE["start.sh"]
    assert isinstance(content, File)
    assert api.get(f"{path}/files/content?path=start.sh&{handle}").body == content.content
    other = run(api, "backup", LOCAL | {"backup.passcode": PASSCODE})["archive"]
    for query in (f"device/{other}?{handle}", f"device/{name}?handle=x"):
        refused = api.get(f"/archives/{query}")
        assert (refused.status, "open the archive again" in refused.detail) == (403, True)


@pytest.mark.parametrize(
    ("order", "says"),
    [
        ({"name": "x.zip"}, "'passcode' or 'identity' is missing"),
        ({"passcode": PASSCODE}, "'name': Field required"),
        ({"name": "x", "passcode": PASSCODE, "identity": "{key}"}, "not both"),
        ({"name": "x", "passcode": "short"}, "must have at least"),
        ({"name": "x", "identity": "AGE-nonsense"}, "option 'restore.identity'"),
    ],
)
def test_a_key_that_cannot_be_one_is_refused(
    api: ApiClient, order: dict[str, str], says: str, tmp_path: Path
) -> None:
    if order.get("identity") == "{key}":
        order = order | {"identity": _new_key(tmp_path / "key")}
    refused = api.post("/archives/device/open", order)
    assert (refused.status, says in refused.detail) == (400, True), refused


def _new_key(path: Path) -> str:
    age_key(path)
    return private_key(path)


def test_a_plain_archive_is_not_opened_with_a_key(api: ApiClient, archive: str) -> None:
    """It may be another one in its place."""
    name = archive.rpartition("/")[2]
    assert api.post("/archives/device/open", {"name": name, "passcode": PASSCODE}).status == 400


# Limits


def test_there_is_one_download_at_a_time(api: ApiClient, agent: LocalAgent) -> None:
    with zipfile.ZipFile(agent.storage / "archives" / "big.zip", "w") as big:
        big.writestr("f", bytes(8 << 20))
    path = "/archives/device/big.zip/files/content?path=f"
    with closing(UnixConnection(agent.storage / "http.sock")) as connection:
        connection.request("GET", f"/api/v1{path}")
        assert connection.getresponse().status == 200
        second = api.get(path)
        assert (second.status, second.headers["retry-after"]) == (409, "10")
        assert api.get("/archives/device/big.zip/files").status == 200, "a look is no download"
    wait_until(lambda: api.get(path).status == 200, what="the place of a client that is gone")


def test_no_download_beside_a_job_with_a_cloud_s_library(
    started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = started(backupCmd="sleep 600")
    api = ApiClient(agent.storage / "http.sock")
    with zipfile.ZipFile(agent.storage / "archives" / "a.zip", "w") as archive:
        archive.writestr("f", "content")
    monkeypatch.setattr(providers, "loads_sdk", lambda _name: True)
    job_id = begin(api, "backup", LOCAL)
    refused = api.get("/archives/device/a.zip/files/content?path=f")
    assert (refused.status, "cloud" in refused.detail) == (409, True)
    assert api.get("/archives/device/a.zip/files").status == 200
    api.post(f"/jobs/{job_id}/cancel")


def test_a_client_that_is_gone_does_not_hold_the_place(started: Started) -> None:
    """Its read of a far side that does not answer ends, long before the limit of the far side."""
    with stalling() as far:
        agent = started(stores={"far": {"provider": "generic", "options": {"https.url": far.url}}})
        api = ApiClient(agent.storage / "http.sock")
        with closing(UnixConnection(agent.storage / "http.sock")) as connection:
            connection.request("GET", "/api/v1/archives/far/archive.zip")
            assert far.reached.wait(60)
        assert api.get("/archives?store=device").status == 200
        none = api.get("/archives?store=far")
        assert (none.status, "has no list" in none.detail) == (422, True)


def test_a_read_that_does_not_end_is_given_up(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LIMIT_S", 0.5)
    with stalling() as far:
        agent = started(stores={"far": {"provider": "generic", "options": {"https.url": far.url}}})
        api = ApiClient(agent.storage / "http.sock")
        for path in ("/archives/far/archive.zip", "/archives/far/archive.zip/files/content?path=f"):
            late = api.get(path)
            assert (late.status, "did not answer within" in late.detail) == (504, True)
        assert api.get("/archives?store=device").status == 200


def test_what_a_far_side_says_is_no_error_of_ours(started: Started) -> None:
    url = "http://127.0.0.1:9/x"
    agent = started(
        transfer_attempts=1, stores={"far": {"provider": "generic", "options": {"https.url": url}}}
    )
    assert ApiClient(agent.storage / "http.sock").get("/archives/far/x").status == 504
