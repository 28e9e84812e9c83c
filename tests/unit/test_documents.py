"""Parts that the documents' endpoints share: destinations by other words, identifiers, bodies, pages."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.refusals import Refused
from agent.base.sources import ArchiveSource
from agent.faces.http.documents import destinations
from agent.faces.http.documents.arcgis_form import answer, problem_answer, token_in
from agent.faces.http.documents.bodies import form_fields
from agent.faces.http.documents.pieces_models import started_of
from agent.faces.http.documents.restoring import fetchable, options_to_restore
from agent.faces.http.message import Peer, Problem, Request
from agent.journal.jobs import JobRecord
from agent.settings import Settings
from agent.settings.load import load

FORM = {"content-type": "application/x-www-form-urlencoded"}


def settings(tmp_path: Path, **values: Any) -> Settings:
    """Settings as a file gives them."""
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"storage": str(tmp_path / "storage"), "dir": str(tmp_path), **values}))
    return load({}, file, {}).settings


def targets(*named: tuple[str, bool]) -> dict[str, Any]:
    return {name: {"path": f"/media/{name}", "mount": mount} for name, mount in named}


TARGETS: list[tuple[dict[str, Any], str | None, str | None]] = [
    ({}, "device", None),
    (targets(("device", False), ("usb", True)), "device", "usb"),
    (targets(("first", False), ("front", True), ("back", True)), "first", "front"),
    (targets(("front", True), ("UsbKey", False), ("Device", True)), "Device", "UsbKey"),
    (targets(("front", True)), None, "front"),
]


@pytest.mark.parametrize(("configured", "device", "stick"), TARGETS)
def test_device_and_stick_are_found_by_name_and_then_by_kind(
    tmp_path: Path, configured: dict[str, Any], device: str | None, stick: str | None
) -> None:
    given = settings(tmp_path, targets=configured)
    assert (destinations.device_target(given), destinations.stick_target(given)) == (device, stick)


def test_a_backup_without_a_destination_goes_where_the_schedule_s_go(tmp_path: Path) -> None:
    """A single store is not taken: a second one would move the backups without a word."""
    store = {"cloud": {"provider": "local", "options": {"local.target": "device"}}}
    local = {"storage.provider": "local", "local.target": "device"}
    assert destinations.default_destination(settings(tmp_path, stores=store)) == local
    chosen = settings(tmp_path, stores=store, **{"schedules.kanto.store": "cloud"})
    assert destinations.default_destination(chosen) == {"backup.store": "cloud"}


def record(archive: str, state: str = "FINISHED", **facts: Any) -> JobRecord:
    began, ended = "2026-11-22T02:00:00.104211Z", "2026-11-22T02:00:01.104211Z"
    facts = {"archive": archive, **facts}
    return JobRecord("5f0c", "backup", "c", began, ended, state, "", "", Path("/data"), facts)


def test_only_backups_that_the_device_can_fetch_by_itself_are_listed(tmp_path: Path) -> None:
    """Not: failed ones, removed ones, files of somebody at the device, credentials of a command."""
    stores = {
        "cloud": {"provider": "local", "options": {"local.target": "device"}},
        "url": {"provider": "generic", "options": {"https.url": "https://s.example/site.zip"}},
    }
    newest_first = [
        record("a", store="cloud", place="local:device/a"),
        record("b", place="local:device/b"),
        record("c", store="url", place="https://s.example/site.zip"),
        record("d", store="url", place="https://s.example/site.zip"),
        record("e", place="local:device/e", removed=True),
        record("f", place="local:/home/me/f"),
        record("g", place="https://elsewhere.example/g"),
        record("h", place="local:gone/h"),
        record("i", store="gone", place="local:device/i"),
        record("j", state="FAILED", place="local:device/j"),
        record("", place="/storage/backups/k.zip"),
    ]
    found = {
        each.archive: each.options for each in fetchable(newest_first, settings(tmp_path, stores=stores))
    }
    assert found == {
        "a": {"restore.store": "cloud", "local.name": "a"},
        "b": {"storage.provider": "local", "local.target": "device", "local.name": "b"},
        "c": {"restore.store": "url"},
    }


DIRECTORY = "/srv/app"
SOURCES: list[tuple[ArchiveSource | None, dict[str, Any], dict[str, Any]]] = [
    (None, {}, {}),
    (ArchiveSource(), {}, {}),
    (ArchiveSource(DIRECTORY), {}, {"backup.dir": DIRECTORY, "restore.mode": "replace"}),
    (ArchiveSource(DIRECTORY), {"unexportable": 1}, {"backup.dir": DIRECTORY}),
    (ArchiveSource(DIRECTORY, paths=frozenset({"x"})), {}, {"backup.dir": DIRECTORY}),
    (
        ArchiveSource(data_sets=frozenset({"net"}), paths=frozenset({"net/etc/net", "net/etc/hosts"})),
        {},
        {"restore.dataTypes": ["net"], "restore.mode": "replace"},
    ),
    (
        ArchiveSource(data_sets=frozenset({"net"}), paths=frozenset({"net/etc/net/one"})),
        {},
        {"restore.dataTypes": ["net"]},
    ),
    (
        ArchiveSource(data_sets=frozenset({"gone"}), paths=frozenset({"gone/x"})),
        {},
        {"restore.dataTypes": ["gone"]},
    ),
]


@pytest.mark.parametrize(("source", "facts", "expected"), SOURCES)
def test_only_a_backup_of_everything_replaces_everything(
    tmp_path: Path, source: ArchiveSource | None, facts: dict[str, Any], expected: dict[str, Any]
) -> None:
    given = settings(tmp_path, dataSets={"net": {"paths": ["/etc/net", "/etc/hosts"]}})
    (found,) = fetchable([record("a.zip", place="local:device/a.zip", **facts)], given)
    assert options_to_restore(found, source, given) == {**found.options, **expected}


def test_an_encrypted_backup_is_not_restored_without_its_passcode(tmp_path: Path) -> None:
    given = settings(tmp_path)
    (found,) = fetchable([record("a.zip.age", place="local:device/a.zip.age")], given)
    with pytest.raises(Refused, match="encrypted"):
        options_to_restore(found, None, given)


@given(st.text())
def test_any_text_may_be_asked_for_as_an_identifier(text: str) -> None:
    assert started_of(text) is None or re.fullmatch(r"[0-9]+_" + re.escape(started_of(text) or ""), text)


def request(method: str = "GET", query: str = "", body: bytes = b"", **headers: str) -> Request:
    return Request(method, "/", query, headers, body, Peer(""))


def status_of(read: Callable[[], object]) -> int:
    """Return the status with which a body is refused; 200 for one that can be read."""
    try:
        read()
    except Problem as problem:
        return problem.status
    return 200


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_refused(body: bytes) -> None:
    assert status_of(lambda: form_fields(body)) in (200, 400)


@given(st.binary(max_size=200) | st.text().map(lambda text: json.dumps(text).encode()))
def test_any_bytes_are_a_json_object_or_refused(body: bytes) -> None:
    asked = request("POST", body=body, **{"content-type": "application/json"})
    assert status_of(asked.json_object) in (200, 400)


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=20))
def test_every_form_is_read_as_it_was_written(fields: dict[str, str]) -> None:
    try:
        written = urlencode(fields)
    except UnicodeEncodeError:  # a half of a pair is no text
        return
    assert form_fields(written.encode()) == fields


@given(st.binary(max_size=100), st.text(max_size=100))
def test_a_problem_is_worded_whatever_the_request_was(body: bytes, query: str) -> None:
    asked = request("POST", query, body, **FORM)
    assert problem_answer(asked, Problem(400, "no")).status == 400
    assert token_in(asked) is None or b"token" in body


class Tags(HTMLParser):
    """Collects what a browser would take for tags, and for text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(
    st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9)
)
def test_a_page_has_no_tags_but_its_own(value: Any) -> None:
    page = answer(request(query="f=html"), str(value), {"value": value})
    assert isinstance(page.body, bytes)
    tags = Tags()
    tags.feed(page.body.decode())
    tags.close()
    assert tags.tags <= {"html", "head", "meta", "title", "body", "h1", "dl", "dt", "dd", "ol", "li"}
