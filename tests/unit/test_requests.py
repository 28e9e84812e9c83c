"""The value of a command: read tolerantly, refused with a 400 that says what is wrong."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.base.operations import OPERATIONS, Face
from agent.base.refusals import Reason, Refused
from agent.base.text import Number
from agent.jobs.requests.backup import BackupRequest
from agent.jobs.requests.control import (
    ActivateRequest,
    CancelRequest,
    ConfirmRequest,
    DeactivateRequest,
    DescribeRequest,
    DiscardRequest,
    FinalizeRequest,
    HistoryRequest,
    InfoRequest,
    PruneRequest,
    StartRequest,
    StatusRequest,
    TriggerRequest,
)
from agent.jobs.requests.options import Key
from agent.jobs.requests.raw import RawRequest, Request, read_raw
from agent.jobs.requests.restore import ArchivesRequest, RestoreRequest, VerifyRequest
from tests.support.requests import read
from tests.unit.test_ditto import JSON


def value_of(value: object) -> RawRequest:
    return read_raw("backup", value)


def refusal(value: object) -> Refused:
    with pytest.raises(Refused) as caught:
        read(BackupRequest, value)
    assert caught.value.reason is Reason.INVALID
    return caught.value


@pytest.mark.parametrize("key", ["correlationID", "correlationId", "correlationid", "CORRELATIONID"])
def test_the_id_is_read_in_any_case(key: str) -> None:
    """The API document writes `correlationID`, Kanto's backends `correlationId`."""
    assert read(BackupRequest, {key: "X"}).correlation_id == "X"


def test_an_absent_value_is_an_empty_one() -> None:
    assert read(BackupRequest, None) == BackupRequest()


def test_the_documents_own_example_is_read() -> None:
    """An empty option is an absent one, so `https.url` names no destination."""
    options = {"backup.dir": "/var/tmp/backup", "https.url": ""}
    value = {"correlationID": "upload-id-1704439450#n", "providers": {}, "options": options}
    request = read(BackupRequest, value)
    assert request.correlation_id == "upload-id-1704439450#n"
    assert request.selection.directory == "/var/tmp/backup"
    assert request.destination is None


@pytest.mark.parametrize("providers", [None, {}, [], ["aws"], {"aws": 1}, "aws", 5])
def test_providers_may_be_anything(providers: object) -> None:
    """Backends send null, an object or a list; it says nothing that we need."""
    assert read(BackupRequest, {"providers": providers}) == BackupRequest()


@pytest.mark.parametrize(
    ("given_value", "text"),
    [
        ("", None),
        (None, None),
        ("x", "x"),
        (Number("5"), "5"),
        (Number("1.10"), "1.10"),
        (True, "true"),
        (False, "false"),
        (["a", "b"], '["a", "b"]'),
        ([], "[]"),
    ],
)
def test_options_are_texts(given_value: object, text: str | None) -> None:
    """Numbers and booleans are read as their text, lists as JSON; what is empty is absent."""
    assert value_of({"Options": {"k": given_value}}).options.text("k") == text


def test_an_object_as_an_option_is_refused_by_name() -> None:
    assert "'k' must be a text" in refusal({"options": {"k": {}}}).message


@pytest.mark.parametrize("value", ["text", [], Number("5"), True])
def test_a_value_that_is_no_object_is_refused(value: object) -> None:
    """WIRE section 3: a readable envelope with a bad `value` gets a 400; a text may be sent JSON."""
    expected = "the value must be an object" + ", sent as application/json" * isinstance(value, str)
    assert refusal(value).message == f"invalid 'backup' parameters: {expected}"


@pytest.mark.parametrize("value", [{"options": []}, {"options": "text"}, {"options": True}])
def test_options_that_are_no_object_are_refused(value: object) -> None:
    assert refusal(value).message == "invalid 'backup' parameters: options must be an object"


@pytest.mark.parametrize("identifier", [[], {}])
def test_an_id_that_is_no_scalar_is_refused(identifier: object) -> None:
    assert refusal({"correlationID": identifier}).message == (
        "invalid 'backup' parameters: correlationId must be a text"
    )


def test_an_id_may_have_256_bytes_and_not_one_more() -> None:
    """WIRE section 1: all that must follow has room for ids of that length, in bytes and not characters."""
    assert read(BackupRequest, {"correlationID": "ü" * 128}).correlation_id == "ü" * 128
    assert "256 bytes" in refusal({"correlationID": "ü" * 128 + "x"}).message


@pytest.mark.parametrize("key", ["backup.passkey", "restore.dry", "backup.", "restore.Mode", "Backup.dir"])
def test_an_unknown_wish_of_our_own_kind_is_refused(key: str) -> None:
    """Ignoring it would do something else than what was asked for."""
    assert f"unknown option '{key}'" in refusal({"options": {key: "x"}}).message


def test_options_of_somebody_else_are_let_through() -> None:
    """Backends send one set of options to all operations and providers."""
    assert value_of({"options": {"aws.region": "eu", "x": "y"}}).options.text("x") == "y"


@pytest.mark.parametrize(
    ("options", "provider"),
    [
        ({}, None),
        ({"storage.provider": ""}, None),
        ({"https.url": "http://h/x"}, "generic"),
        ({"storage.provider": "local"}, "local"),
        ({"storage.provider": "local", "https.url": "http://h/x"}, "local"),
    ],
)
def test_a_url_alone_means_generic(options: dict[str, str], provider: str | None) -> None:
    """WIRE section 4; without either, the archive is staged and asked for."""
    destination = read(BackupRequest, {"options": options}).destination
    assert (destination and destination.provider) == provider


def test_options_that_are_carried_lose_their_prefix() -> None:
    value = {"options": {"options.a": "1", "options.": "2", "info.b": "3", "storage.provider": "local"}}
    assert read(BackupRequest, value).passed_on == {"a": "1", "": "2"}
    assert read(StartRequest, value).info == {"b": "3"}


def test_a_provider_is_given_its_own_options_and_none_of_ours() -> None:
    """A stranger's provider has no use for the passcode of an archive."""
    options = {"storage.provider": "x", "x.y": "1", "backup.passcode": "hunter2-hunter2", "options.a": "1"}
    destination = read(BackupRequest, {"options": options}).destination
    assert destination
    assert destination.options == {"x.y": "1"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"restore.mode": "wipe"}, "option 'restore.mode' must be 'merge', 'replace' or 'exact'"),
        ({"restore.preview": "perhaps"}, "option 'restore.preview' must be 'true' or 'false'"),
        ({"restore.foreign": "1"}, "option 'restore.foreign' must be 'true' or 'false'"),
        ({"restore.confirmWithin": "soon"}, "option 'restore.confirmWithin' must be a duration of at least"),
        ({"restore.confirmWithin": "0.9s"}, "option 'restore.confirmWithin' must be a duration of at least"),
        ({"storage.provider": ""}, "option 'storage.provider' is missing, and no store is named"),
        (
            {"local.name": "a.zip", "restore.archive": "b.zip"},
            "option 'restore.archive' contradicts 'local.name': leave one out",
        ),
        (
            {"storage.provider": "generic", "restore.archive": "b.zip"},
            "option 'restore.archive' is of no use here: the URL names the archive",
        ),
    ],
)
def test_an_option_that_cannot_be_read_is_refused_by_name(options: dict[str, str], says: str) -> None:
    with pytest.raises(Refused) as caught:
        read(RestoreRequest, {"options": {"storage.provider": "local", **options}})
    assert caught.value.reason is Reason.INVALID
    assert caught.value.message.startswith(says)


def test_an_archive_is_named_without_the_provider_s_own_word() -> None:
    """A backend that steers many devices need not know where each of them keeps its archives."""
    options = {"storage.provider": "local", "restore.archive": "a.zip"}
    assert read(RestoreRequest, {"options": options}).source.options == {"local.name": "a.zip"}
    assert read(VerifyRequest, {"options": options}).source.options == {"local.name": "a.zip"}


def test_an_output_file_and_a_destination_exclude_each_other() -> None:
    value = {"output": "/x", "options": {"storage.provider": "local"}}
    assert read(BackupRequest, value).output == "", "only somebody at the device may name a file"
    with pytest.raises(Refused, match="not both"):
        read(BackupRequest, value, face=Face.LOCAL)


@pytest.mark.parametrize(
    ("given", "patterns"),
    [
        (["*.tmp", "/cache/"], ("*.tmp", "/cache/")),
        ("*.tmp\n/cache/", ("*.tmp", "/cache/")),
        ("[ab].log", ("[ab].log",)),
        ("[1]", ("[1]",)),
        ("7", ("7",)),
        ("", ()),
    ],
)
def test_patterns_come_as_a_list_or_as_lines(given: Any, patterns: tuple[str, ...]) -> None:
    assert read(BackupRequest, {"options": {"backup.exclude": given}}).selection.exclude == patterns


@pytest.mark.parametrize(
    "given", ["hunter2\n!", "[z-a]hunter2", ["a/" * 200 + "b"] * 6, ["x"] * 101, "x" * 1001]
)
def test_unusable_patterns_are_refused_without_their_text(given: Any) -> None:
    assert "hunter2" not in refusal({"options": {"backup.exclude": given}}).message


def test_no_value_of_an_option_is_repeated_in_a_refusal() -> None:
    """It may be a secret in the wrong place."""
    error = refusal({"options": {"aws.secret.access.key": {"deep": "hunter2"}, "backup.x": "hunter2"}})
    assert "hunter2" not in error.message


@given(JSON | st.fixed_dictionaries({}, optional={"options": JSON, "correlationID": JSON}))
def test_any_value_is_read_or_refused_with_a_400(value: Any) -> None:
    """Only a 400 tells the sender that the fault is the message's."""
    try:
        options = value_of(value).options.texts
    except Refused as error:
        options = {}
        assert error.reason is Reason.INVALID  # noqa: PT017
    assert all(isinstance(text, str) and text for text in options.values())


REQUESTS: tuple[type[Request], ...] = (
    BackupRequest, RestoreRequest, VerifyRequest, StartRequest, TriggerRequest, CancelRequest,
    ActivateRequest, DeactivateRequest, FinalizeRequest, DiscardRequest, ConfirmRequest, PruneRequest,
    StatusRequest, HistoryRequest, DescribeRequest, InfoRequest, ArchivesRequest,
)  # fmt: skip
TEXTS = st.text(max_size=20) | st.sampled_from(["true", "10s", "[]", '["a", "../b"]', "/x", "age", "1e9"])
OPTIONS = st.dictionaries(st.sampled_from([*sorted(Key), "storage.provider", "https.url"]), TEXTS)
FIELDS = st.fixed_dictionaries(
    {"options": OPTIONS},
    optional={"from": JSON, "to": JSON, "message": JSON, "output": TEXTS, "dryRun": JSON},
)


@pytest.mark.parametrize("request_type", REQUESTS, ids=lambda request: request.operation)
@settings(deadline=None, max_examples=60)
@given(value=FIELDS)
def test_any_options_make_a_request_or_a_refusal_that_is_the_sender_s(
    request_type: type[Request], value: dict[str, Any]
) -> None:
    """Whatever else was raised would be told as a bug of the agent, with a 500."""
    with suppress(Refused):
        read(request_type, value, face=Face.LOCAL)


def test_every_operation_has_a_request_that_is_read_here() -> None:
    assert {request.operation for request in REQUESTS} == set(OPERATIONS)
