"""Whatever is sent to the documents' endpoints is answered in their form, and is no error of the agent."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.api_client import ApiClient
from tests.support.local_agent import LocalAgent

FORM, JSON = "application/x-www-form-urlencoded", "application/json"
ADMIN = "/a/admin/system/disasterrecovery/stores"
GETS = (
    "/backup/{}", "/backup/{}/creation/status", "/backup/{}/restoration/status",
    f"{ADMIN}/{{}}/backups", "/a/admin/jobs/{}", "/{}/admin/system/disasterrecovery/stores",
    "/api/rest/v1/jobs/{}",
)  # fmt: skip
POSTS = (
    "/backup", "/backup/asset", "/backup/{}/restore", "/backup/{}/restore/streamed",
    "/backup/{}/creation/cancel", "/backup/{}/restoration/cancel",
    f"{ADMIN}/device/backups/create", f"{ADMIN}/{{}}/backups/create",
    "/api/rest/v1/system/backup/create", "/api/rest/v1/jobs/{}/cancel",
)  # fmt: skip
MEMBERS = ("id", "iterable", "target", "Target", "fileName", "dataTypes", "envysionProjects")

known = st.sampled_from(["1_2026-11-22T02:00:00.104211Z", "device", "../x", "%00", ".", "Device", "UsbKey"])
texts = st.text(max_size=20) | known
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)


values = st.recursive(scalars, nested, max_leaves=6)
assets = st.lists(st.fixed_dictionaries({"id": values}), max_size=2)
members = st.dictionaries(st.sampled_from(MEMBERS) | texts, values | assets, max_size=4)
fields = st.dictionaries(
    st.sampled_from(["name", "passcode", "storeName", "retentionDate", "f", "description", "token"]) | texts,
    texts | st.sampled_from(["passcode", "json", "0", "-1", "9" * 14]),
    max_size=5,
)
bodies = (
    st.tuples(st.just(JSON), members.map(lambda value: json.dumps(value).encode()))
    | st.tuples(st.just(FORM), fields.map(lambda form: urlencode(form, errors="replace").encode()))
    | st.tuples(st.sampled_from([JSON, FORM, "text/xml", ""]), st.binary(max_size=50))
)


def path_of(template: str, part: str) -> str:
    return template.replace("{}", quote(part, safe="", errors="replace") or "x")


@pytest.fixture
def client(agent: LocalAgent) -> ApiClient:
    return ApiClient(agent.storage / "http.sock", "")


patient = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)


@patient
@given(st.sampled_from(GETS), texts, fields)
def test_any_get_is_answered(client: ApiClient, template: str, part: str, query: dict[str, str]) -> None:
    text = urlencode(query, errors="replace")
    check(client.get(f"{path_of(template, part)}?{text}"))


@patient
@given(st.sampled_from(POSTS), texts, bodies)
def test_any_post_is_answered(client: ApiClient, template: str, part: str, body: tuple[str, bytes]) -> None:
    kind, content = body
    check(client.send("POST", path_of(template, part), content, **({"Content_Type": kind} if kind else {})))


def check(answer: Any) -> None:
    assert answer.status in (200, 204, 400, 404, 405, 409, 413, 415, 422, 500), answer
    assert b"internal error" not in answer.body, answer
    if answer.status == 500:  # on the paths of 003, for what is not there
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
