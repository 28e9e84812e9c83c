"""The value of a command: read tolerantly, refused with a 400 that says what is wrong."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.refusals import Reason, Refused
from agent.base.text import Number
from agent.jobs.requests import Parameters, read_parameters
from tests.unit.test_ditto import JSON


def refusal(value: object) -> Refused:
    with pytest.raises(Refused) as caught:
        read_parameters("backup", value)
    assert caught.value.reason is Reason.INVALID
    return caught.value


@pytest.mark.parametrize("key", ["correlationID", "correlationId", "correlationid", "CORRELATIONID"])
def test_the_id_is_read_in_any_case(key: str) -> None:
    """The API document writes `correlationID`, Kanto's backends `correlationId`."""
    assert read_parameters("backup", {key: "X"}).correlationid == "X"


def test_an_absent_value_is_an_empty_one() -> None:
    assert read_parameters("backup", None) == Parameters()


def test_the_documents_own_example_is_read() -> None:
    """An empty option is an absent one, so `https.url` names no destination."""
    options = {"backup.dir": "/var/tmp/backup", "https.url": ""}
    value = {"correlationID": "upload-id-1704439450#n", "providers": {}, "options": options}
    parameters = read_parameters("backup", value)
    assert parameters.correlationid == "upload-id-1704439450#n"
    assert parameters.directory == "/var/tmp/backup"
    assert parameters.provider is None


@pytest.mark.parametrize("providers", [None, {}, [], ["aws"], {"aws": 1}, "aws", 5])
def test_providers_may_be_anything(providers: object) -> None:
    """Backends send null, an object or a list; it says nothing that we need."""
    assert read_parameters("backup", {"providers": providers}) == Parameters()


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
    assert read_parameters("backup", {"Options": {"k": given_value}}).options.get("k") == text


def test_an_object_as_an_option_is_refused_by_name() -> None:
    assert "'k' must be a text" in refusal({"options": {"k": {}}}).message


@pytest.mark.parametrize("value", ["text", [], Number("5"), True])
def test_a_value_that_is_no_object_is_refused(value: object) -> None:
    """WIRE section 3: a readable envelope with a bad `value` gets a 400."""
    assert refusal(value).message == "invalid 'backup' parameters: the value must be an object"


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
    assert read_parameters("backup", {"correlationID": "ü" * 128}).correlationid == "ü" * 128
    assert "256 bytes" in refusal({"correlationID": "ü" * 128 + "x"}).message


@pytest.mark.parametrize("key", ["backup.passkey", "restore.dry", "backup.", "restore.Mode", "Backup.dir"])
def test_an_unknown_wish_of_our_own_kind_is_refused(key: str) -> None:
    """Ignoring it would do something else than what was asked for."""
    assert f"unknown option '{key}'" in refusal({"options": {key: "x"}}).message


def test_options_of_somebody_else_are_let_through() -> None:
    """Backends send one set of options to all operations and providers."""
    assert read_parameters("backup", {"options": {"aws.region": "eu", "x": "y"}}).options["x"] == "y"


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
    assert read_parameters("backup", {"options": options}).provider == provider


def test_options_that_are_carried_lose_their_prefix() -> None:
    parameters = read_parameters("backup", {"options": {"options.a": "1", "options.": "2", "info.b": "3"}})
    assert parameters.prefixed("options.") == {"a": "1", "": "2"}
    assert parameters.prefixed("info.") == {"b": "3"}


def test_an_unknown_restore_mode_is_refused() -> None:
    parameters = read_parameters("restore", {"options": {"restore.mode": "wipe"}})
    with pytest.raises(Refused) as caught:
        _ = parameters.restore_mode
    assert caught.value.reason is Reason.INVALID


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
    assert read_parameters("backup", {"options": {"backup.exclude": given}}).exclude == patterns


@pytest.mark.parametrize(
    "given", ["hunter2\n!", "[z-a]hunter2", ["a/" * 200 + "b"] * 6, ["x"] * 101, "x" * 1001]
)
def test_unusable_patterns_are_refused_without_their_text(given: Any) -> None:
    parameters = read_parameters("backup", {"options": {"backup.exclude": given}})
    with pytest.raises(Refused) as caught:
        _ = parameters.exclude
    assert caught.value.reason is Reason.INVALID
    assert "hunter2" not in caught.value.message


def test_no_value_of_an_option_is_repeated_in_a_refusal() -> None:
    """It may be a secret in the wrong place."""
    error = refusal({"options": {"aws.secret.access.key": {"deep": "hunter2"}, "backup.x": "hunter2"}})
    assert "hunter2" not in error.message


@given(JSON | st.fixed_dictionaries({}, optional={"options": JSON, "correlationID": JSON}))
def test_any_value_is_read_or_refused_with_a_400(value: Any) -> None:
    """Only a 400 tells the sender that the fault is the message's."""
    try:
        options = read_parameters("backup", value).options
    except Refused as error:
        options = {}
        assert error.reason is Reason.INVALID  # noqa: PT017
    assert all(isinstance(text, str) and text for text in options.values())
