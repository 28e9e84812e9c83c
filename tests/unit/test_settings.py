"""Settings take values in several forms, and show them in one."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.base.times import parse_rfc3339
from agent.cli import main
from agent.settings import Settings
from agent.settings.keys import KEYS
from agent.settings.load import SettingsError, effective, load
from agent.settings.parsing import BrokerAddress, format_size, parse_broker, parse_size
from agent.settings.sections import FIRST, SECTIONS
from tests.support.reference import (
    OPENAPI,
    REFERENCE,
    SETTINGS,
    first_file,
    generated_in,
    openapi_text,
    reference_json,
    settings_tables,
)

ROOT = Path(__file__).parents[2]
MARK = "marked-secret-3f7a"


def problem(key: str, value: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load({key: value}, None, {})
    return str(caught.value)


def test_defaults_are_usable() -> None:
    settings = load({}, None, {}).settings
    assert settings.stop_timeout == timedelta(seconds=30)
    assert settings.broker == BrokerAddress("localhost", 1883, tls=False)
    assert (settings.dir, settings.active_from, settings.log_file) == (
        None,
        None,
        Path("log/file-backup.log"),
    )
    assert settings.restore.max_size == 64 << 30


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.mode = "lax"
    with pytest.raises(ValidationError):
        settings.archive.level = "fast"


def test_without_targets_there_is_one_in_the_storage_directory() -> None:
    assert load({"storage": "/data"}, None, {}).settings.targets["device"].path == Path("/data/archives")
    assert list(load({"targets.usb.path": "/media/usb"}, None, {}).settings.targets) == ["usb"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("period", "0s", "period: expected a duration of at least 1s such as '90s' or '1h30m', not \"0s\""),
        ("stopTimeout", "-1s", "stopTimeout: expected a duration such as '90s' or '1h30m', not \"-1s\""),
        ("stopTimeout", "30", "stopTimeout: expected a duration such as '90s' or '1h30m', not \"30\""),
        ("logFileCount", "0", 'logFileCount: expected a whole number of at least 1, not "0"'),
        ("logFileMaxAge", "-1", 'logFileMaxAge: expected a whole number, 0 to keep for ever, not "-1"'),
        ("archive.threads", "5", 'archive.threads: expected a whole number from 0 to 4, not "5"'),
        ("checksum", "perhaps", 'checksum: expected true or false, not "perhaps"'),
        ("storage", "", 'storage: expected a path, not ""'),
        ("logLevel", "LOUD", 'logLevel: expected one of ERROR, WARN, INFO, DEBUG, TRACE, not "LOUD"'),
        ("targets.usb.mount", "true", "targets.usb.path: is missing; expected a path"),
        ("targets.u b.path", "/x", "targets: the name 'u b' must be 1 to 64 letters, digits, '-' or '_'"),
        (
            "storage.reserve",
            "1 parsec",
            "storage.reserve: expected a whole number of bytes, or a size such as '512MiB' or '2GB', "
            'not "1 parsec"',
        ),
        (
            "broker",
            "http://host",
            "broker: expected scheme://host[:port] with a scheme of tcp, mqtt, ssl, tls, mqtts, "
            'not "http://host"',
        ),
        (
            "activeFrom",
            "tomorrow",
            "activeFrom: expected a time such as '2026-11-21T22:00:00Z', or nothing, not \"tomorrow\"",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(key: str, value: str, message: str) -> None:
    where = "" if ": is missing" in message or "the name" in message else " (on the command line)"
    assert problem(key, value) == message + where


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"mode": "x", "period": "y"}, Path("/nonexistent"), {"EDGE_BACKUP_CHECKSUM": "z"})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "/nonexistent",
        "mode",
        "checksum",
        "period",
    ]


def test_a_long_wrong_value_is_cut() -> None:
    assert len(problem("mode", "x" * 10_000)) < 200


def test_a_file_of_numbers_for_durations_is_refused_as_go_refuses_it(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"stopTimeout": 30, "logFileSize": true, "activeFrom": 1700000000}')
    with pytest.raises(SettingsError) as caught:
        load({}, config, {})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "stopTimeout",
        "activeFrom",
        "logFileSize",
    ]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://localhost:1883", BrokerAddress("localhost", 1883, tls=False)),
        ("tcp://localhost", BrokerAddress("localhost", 1883, tls=False)),
        ("mqtt://broker/", BrokerAddress("broker", 1883, tls=False)),
        ("ssl://broker:8883", BrokerAddress("broker", 8883, tls=True)),
        ("tls://broker", BrokerAddress("broker", 8883, tls=True)),
        ("mqtts://[fe80::1]:9000", BrokerAddress("fe80::1", 9000, tls=True)),
    ],
)
def test_broker_addresses_of_kanto_and_others_are_understood(text: str, address: BrokerAddress) -> None:
    assert parse_broker(text) == address
    assert parse_broker(str(address)) == address


@given(st.text(max_size=30) | st.text(max_size=20).map("tcp://".__add__))
def test_any_text_is_a_broker_address_or_a_value_error(text: str) -> None:
    try:
        address = parse_broker(text)
    except ValueError:
        return
    assert address.host
    assert 0 < address.port < 65536


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("deviceId", "mydevice"),
        ("deviceId", "edge:a/b"),
        ("deviceId", "edge:"),
        ("featureId", ""),
        ("featureId", "a/b"),
        ("featureId", "a b"),
        ("tenantId", "a/b"),
        ("tenantId", "#"),
    ],
)
def test_ids_that_would_break_a_topic_are_refused(key: str, text: str) -> None:
    assert key in problem(key, text)


def test_ids_that_are_levels_of_topics_are_taken() -> None:
    given_ids = {"deviceId": "org.acme:gw-1:edge:containers", "tenantId": "t_1", "featureId": "Backup:2"}
    settings = load(given_ids, None, {}).settings
    assert [settings.device_id, settings.tenant_id, settings.feature_id] == list(given_ids.values())


def test_credentials_in_a_broker_address_are_refused_and_not_shown() -> None:
    assert MARK not in problem("broker", f"tcp://user:{MARK}@host:1883")


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("0", 0), ("4096", 4096), ("1B", 1), ("1 kB", 1000), ("1KB", 1000), ("1KiB", 1024), ("512MiB", 1 << 29)],
)
def test_sizes_are_understood(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@given(st.integers(min_value=0, max_value=10**18 - 1))
def test_every_size_survives_being_written_and_read(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.text(alphabet="0123456789 .-kKMGTiB", max_size=24))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except ValueError:
        return


@given(st.datetimes(timezones=st.just(UTC)))
def test_every_rfc_3339_time_is_understood(moment: datetime) -> None:
    assert parse_rfc3339(moment.isoformat()) == moment
    assert parse_rfc3339(moment.isoformat().replace("+00:00", "z").replace("T", "t")) == moment


@pytest.mark.parametrize(
    "text",
    ["2026-11-21", "2026-11-21T22:00:00", "20261121T220000Z", "2026-11-21 22:00:00Z", "2026-02-30T00:00:00Z"],
)
def test_times_without_zone_or_in_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_rfc3339(text)


def test_no_secret_is_in_a_repr_a_problem_or_the_effective_settings(tmp_path: Path) -> None:
    loaded = load({"password": MARK, "transfer.proxy": f"http://u:{MARK}@proxy"}, None, {})
    shown = effective(loaded.settings)
    assert (shown["password"], shown["transfer.proxy"]) == ("***", "***")
    assert MARK not in repr(loaded) + str(loaded.settings) + json.dumps(shown)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"deviceId": "a:b", "password": [MARK]}))
    with pytest.raises(SettingsError) as caught:
        load({}, config, {})
    assert str(caught.value) == f"password: expected text, not the given value (in {config})"
    assert caught.value.__cause__ is None


def test_a_password_comes_from_a_file_without_its_newline(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{MARK}\n")
    loaded = load({"password": "other"}, None, {"EDGE_BACKUP_PASSWORD_FILE": str(file)})
    assert loaded.settings.password.get_secret_value() == MARK


def test_password_and_key_come_from_systemd_s_credentials(tmp_path: Path) -> None:
    """`LoadCredential=broker-password:/etc/…`: nothing else has to be said; what is said wins."""
    (tmp_path / "broker-password").write_text(f"{MARK}\n")
    (tmp_path / "broker-key").write_text("PEM")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    settings = load({}, None, environ).settings
    assert settings.password.get_secret_value() == MARK
    assert (settings.key, settings.cert) == (tmp_path / "broker-key", None)
    assert load({"key": "/etc/key.pem"}, None, environ).settings.key == Path("/etc/key.pem")
    (tmp_path / "broker-password").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="it is given as systemd's credential 'broker-password'"):
        load({}, None, environ)


def test_a_password_file_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    missing = tmp_path / "password"
    reason = "cannot be read (No such file or directory); it is given on the command line"
    assert problem("passwordFile", str(missing)) == f"passwordFile: '{missing}' {reason}"


def test_effective_settings_load_again_as_the_same(tmp_path: Path) -> None:
    given_settings = load(
        {
            "dir": "/srv",
            "targets.usb.path": "/media/usb",
            "storage.reserve": "1000",
            "activeFrom": "2026-01-01T00:00:00Z",
        },
        None,
        {},
    ).settings
    config = tmp_path / "config.json"
    config.write_text(json.dumps(effective(given_settings)))
    assert load({}, config, {}).settings == given_settings


def test_the_description_of_the_api_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["openapi"]) == 0
    assert OPENAPI.read_text() == openapi_text() == capsys.readouterr().out, "run 'make reference'"


def test_the_reference_file_equals_the_code() -> None:
    assert REFERENCE.read_text() == reference_json(), "run 'make reference'"


def test_the_tables_in_the_documentation_equal_the_code() -> None:
    assert generated_in(SETTINGS.read_text()) == settings_tables(), "run 'make reference'"


def test_every_setting_is_in_one_section_of_the_help_and_the_documentation() -> None:
    """A new one gets its place in `agent/settings/sections.py`."""
    places = {key.name: [each.name for each in SECTIONS if each.holds(key.name)] for key in KEYS}
    assert {name: found for name, found in places.items() if len(found) != 1} == {}


def test_the_settings_to_begin_with_are_twelve_and_their_examples_a_good_file(tmp_path: Path) -> None:
    assert len(FIRST) == 12
    config = tmp_path / "config.json"
    config.write_text(json.dumps(first_file()))
    loaded = load({}, config, {})
    assert loaded.notices == []
    assert set(FIRST) <= {key.name for key in KEYS}


def test_no_section_names_a_setting_that_is_gone() -> None:
    known = {key.name for key in KEYS}
    named = [name for section in SECTIONS for name in section.names]
    assert [name for name in named if not (name in known or any(one.startswith(name) for one in known))] == []


def test_the_defaults_of_the_reference_file_load_as_the_defaults(tmp_path: Path) -> None:
    reference = json.loads(REFERENCE.read_text())
    config = tmp_path / "config.json"
    config.write_text(
        json.dumps({name: entry["default"] for name, entry in reference.items() if "<name>" not in name})
    )
    assert load({}, config, {}) == load({}, None, {})


def test_every_setting_says_what_it_is_for() -> None:
    assert [key.name for key in KEYS if not (key.help and key.kind.unit)] == []


def test_the_shipped_configuration_loads_without_a_notice() -> None:
    loaded = load({}, ROOT / "config" / "config.json", {})
    assert loaded.notices == []
    assert loaded.settings.mode == "scoped"
