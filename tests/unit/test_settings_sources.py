"""Where settings come from: files of Kanto's and of ours, the environment, the command line."""

import json
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.settings.keys import KEYS
from agent.settings.load import SettingsError, load
from agent.settings.sources import read_file

# The template that Kanto documents, with every property.
KANTO_TEMPLATE = """{
    "featureId": "BackupAndRestore", "type": "file", "context": "edge", "dir": "", "mode": "strict",
    "backupCmd": "", "restoreCmd": "", "singleUpload": false, "checksum": false, "stopTimeout": "30s",
    "keepUploaded": false, "storage": "./storage", "serverCert": "", "active": false, "activeFrom": "",
    "activeTill": "", "period": "10h", "broker": "tcp://localhost:1883", "username": "", "password": "",
    "caCert": "", "cert": "", "key": "", "logFile": "log/file-backup.log", "logLevel": "INFO",
    "logFileCount": 5, "logFileMaxAge": 28, "logFileSize": 2
}"""
KANTO_SHIPPED = '{"logFile": "/var/log/file-backup/log.txt", "dir": "/var/tmp/file-backup", "mode": "scoped"}'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def problems(config: Path, content: str) -> list[str]:
    config.write_text(content)
    with pytest.raises(SettingsError) as caught:
        load({}, config, {})
    return str(caught.value).splitlines()


def test_kantos_template_gives_the_defaults_without_a_notice(config: Path) -> None:
    config.write_text(KANTO_TEMPLATE)
    assert load({}, config, {}) == load({}, None, {})
    assert load({}, config, {}).notices == []


def test_kantos_template_has_exactly_the_28_properties_that_we_know() -> None:
    assert set(json.loads(KANTO_TEMPLATE)) == {key.name for key in KEYS if key.kanto}
    assert len(json.loads(KANTO_TEMPLATE)) == 28


def test_kantos_defaults_are_ours() -> None:
    assert json.loads(KANTO_TEMPLATE) == {key.name: key.default for key in KEYS if key.kanto}


def test_the_file_that_kanto_ships_loads(config: Path) -> None:
    config.write_text(KANTO_SHIPPED)
    loaded = load({}, config, {})
    assert (loaded.settings.dir, loaded.settings.mode) == (Path("/var/tmp/file-backup"), "scoped")
    assert loaded.notices == []


def test_letter_case_of_a_kanto_file_is_free(config: Path) -> None:
    config.write_text('{"FEATUREID": "X", "loglevel": "debug"}')
    settings = load({}, config, {}).settings
    assert (settings.feature_id, settings.log_level) == ("X", "DEBUG")


def test_a_tiny_period_is_a_second_in_a_kanto_file_and_refused_in_a_file_of_ours(config: Path) -> None:
    """10ms was taken: 87 lines of log a second, and a backup for each."""
    config.write_text('{"period": "10ms"}')
    loaded = load({}, config, {})
    assert loaded.settings.period == timedelta(seconds=1)
    ((notice),) = loaded.notices
    assert (notice.level, "'10ms' is below 1s and counts as 1s" in notice.text) == ("warning", True)
    (problem,) = problems(config, '{"period": "999ms", "rpo": "2h"}')
    assert "period: expected a duration of at least 1s" in problem
    for wrong in ("0s", "-1s"):
        assert "at least 1s" in problems(config, f'{{"period": "{wrong}"}}')[0]


def test_empty_and_null_count_as_absent_in_a_kanto_file(config: Path) -> None:
    config.write_text('{"stopTimeout": "", "logFileSize": "", "active": null}')
    assert load({}, config, {}).settings == load({}, None, {}).settings


def test_an_unknown_key_of_a_kanto_file_is_an_error_line_and_no_more(config: Path) -> None:
    config.write_text('{"mode": "lax", "files": "*.log", "deep": {"er": 1}}')
    loaded = load({}, config, {})
    assert loaded.settings.mode == "lax"
    assert [(notice.level, notice.text) for notice in loaded.notices] == [
        ("error", f"{config}: unknown key 'files' is ignored"),
        ("error", f"{config}: unknown key 'deep.er' is ignored"),
    ]


def test_a_wrong_value_in_a_kanto_file_is_a_problem(config: Path) -> None:
    assert problems(config, '{"mode": "loose"}') == [
        f'mode: expected one of strict, scoped, lax, not "loose" (in {config})'
    ]


def test_one_key_of_ours_makes_letter_case_and_unknown_keys_matter(config: Path) -> None:
    assert problems(config, '{"deviceId": "a:b", "Mode": "lax", "nonsense": 1}') == [
        f"{config}: unknown key 'Mode'; did you mean 'mode'?",
        f"{config}: unknown key 'nonsense'",
    ]


def test_a_misspelt_member_of_a_group_of_ours_is_a_problem(config: Path) -> None:
    assert problems(config, '{"archive.levle": "fast"}') == [
        f"{config}: unknown key 'archive.levle'; did you mean 'archive.level'?"
    ]


def test_nested_and_dotted_keys_are_the_same(config: Path) -> None:
    config.write_text('{"archive": {"level": "fast"}, "targets": {"usb": {"path": "/media/usb"}}}')
    nested = load({}, config, {})
    config.write_text('{"archive.level": "fast", "targets.usb.path": "/media/usb"}')
    assert load({}, config, {}) == nested
    assert nested.settings.archive.level == "fast"
    assert list(nested.settings.targets) == ["usb"]


def test_a_key_that_is_given_nested_and_dotted_is_a_problem(config: Path) -> None:
    content = '{"archive": {"level": "fast"}, "archive.level": "small"}'
    assert problems(config, content) == [
        f"{config}: 'archive.level' is given twice, nested and with a dot; keep one"
    ]


def test_the_reserve_stands_beside_kantos_storage(config: Path) -> None:
    config.write_text('{"storage": "/data", "storage.reserve": "1GiB"}')
    settings = load({}, config, {}).settings
    assert (settings.storage, settings.storage_reserve) == (Path("/data"), 1 << 30)


def test_a_group_with_a_plain_value_is_a_problem_that_names_its_members(config: Path) -> None:
    assert problems(config, '{"archive": "fast"}') == [
        f"{config}: unknown key 'archive'; "
        "expected an object with archive.level, archive.dialect, archive.threads"
    ]
    assert problems(config, '{"targets": {"usb": {}}}') == [
        f"{config}: unknown key 'targets.usb'; expected an object with targets.usb.path, targets.usb.mount"
    ]


def test_an_unknown_key_of_a_group_names_what_is_there(config: Path) -> None:
    assert problems(config, '{"stores": {"cloud": {"credentialsFile": "x", "url": "x"}}}')[:2] == [
        f"{config}: unknown key 'stores.cloud.credentialsFile'; did you mean 'stores.cloud.credentials'?",
        f"{config}: unknown key 'stores.cloud.url'; "
        "known there: provider, options, credentials, format, prefix",
    ]


def test_an_empty_group_sets_nothing(config: Path) -> None:
    config.write_text('{"deviceId": "a:b", "archive": {}, "targets": {}}')
    assert list(load({}, config, {}).settings.targets) == ["device"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"mode": "lax",\n "dir": }', "is not valid JSON at line 2, column 9 (Expecting value)"),
        ("", "is not valid JSON at line 1, column 1 (Expecting value)"),
        ("[]", "expected a JSON object with settings"),
        ('"mode"', "expected a JSON object with settings"),
        ("[" * 100_000, "has a number or a nesting that is too large"),
        ('{"logFileSize": ' + "9" * 5000 + "}", "has a number or a nesting that is too large"),
        (" " * ((1 << 20) + 1), "is longer than 1048576 bytes, which no configuration is"),
    ],
)
def test_a_file_that_is_no_json_object_is_named_with_the_place(
    config: Path, content: str, message: str
) -> None:
    assert problems(config, content) == [f"{config}: {message}"]


def test_a_file_that_is_not_utf8_is_named_with_the_place(config: Path) -> None:
    config.write_bytes(b'{"dir": "\xff"}')
    assert read_file(config).problems == [f"{config}: is not UTF-8 text at byte 9"]


def test_a_file_with_a_byte_order_mark_loads(config: Path) -> None:
    config.write_bytes(b'\xef\xbb\xbf{"mode": "lax"}')
    assert load({}, config, {}).settings.mode == "lax"


def test_a_missing_file_ends_the_start(config: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load({}, config, {})
    expected = f"{config}: cannot be read (No such file or directory); give an existing file with --config"
    assert str(caught.value) == expected


def test_a_later_source_overrides_an_earlier_one(config: Path) -> None:
    config.write_text('{"mode": "lax", "context": "file", "type": "file", "archive": {"level": "fast"}}')
    environ = {"EDGE_BACKUP_CONTEXT": "environment", "EDGE_BACKUP_TYPE": "environment"}
    settings = load({"type": "command line"}, config, environ).settings
    assert (settings.mode, settings.context, settings.type) == ("lax", "environment", "command line")
    assert settings.archive.level == "fast"


def test_environment_reaches_every_kind_of_key() -> None:
    environ = {
        "EDGE_BACKUP_LOG_FILE_COUNT": "7",
        "EDGE_BACKUP_CHECKSUM": "true",
        "EDGE_BACKUP_ARCHIVE__LEVEL": "small",
        "EDGE_BACKUP_STORAGE_RESERVE": "2MB",
        "EDGE_BACKUP_TARGETS__USB__PATH": "/media/usb",
        "EDGE_BACKUP_TARGETS__USB__MOUNT": "true",
        "HOME": "/root",
    }
    loaded = load({}, None, environ)
    settings = loaded.settings
    assert (settings.log_file_count, settings.checksum, settings.archive.level) == (7, True, "small")
    assert (settings.storage_reserve, settings.targets["usb"].mount) == (2_000_000, True)
    assert loaded.notices == []


def test_an_unknown_variable_with_our_prefix_is_an_error_line() -> None:
    # Docker and Kubernetes make up EDGE_BACKUP_PORT for a service called edge-backup.
    loaded = load({}, None, {"EDGE_BACKUP_PORT": "tcp://10.0.0.1:80"})
    assert [notice.text for notice in loaded.notices] == [
        "unknown environment variable EDGE_BACKUP_PORT is ignored"
    ]


def test_an_unknown_key_on_the_command_line_is_a_problem() -> None:
    with pytest.raises(SettingsError, match=r"^command line: unknown key 'moode'; did you mean 'mode'\?$"):
        load({"moode": "lax"}, None, {})


def test_a_secret_on_the_command_line_is_a_warning() -> None:
    loaded = load({"password": "hunter2"}, None, {})
    expected = "every user of this device can read password on the command line; put it into a file"
    assert [(notice.level, notice.text) for notice in loaded.notices] == [("warning", expected)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda children: (
        st.lists(children, max_size=3)
        | st.dictionaries(
            st.sampled_from([key.name for key in KEYS]) | st.text(max_size=6), children, max_size=4
        )
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "config.json"


@given(value=JSON)
def test_any_json_is_settings_or_a_settings_error(one_file: Path, value: object) -> None:
    one_file.write_text(json.dumps(value))
    with suppress(SettingsError):
        load({}, one_file, {})


def test_a_variable_sets_a_place_whose_name_has_capitals(config: Path) -> None:
    """Variables are in capitals: `EDGE_BACKUP_TARGETS__USB__PATH` means the `USB` that is there."""
    config.write_text(json.dumps({"targets": {"USB": {"path": "/media/old"}}, "mode": "scoped"}))
    settings = load({}, config, {"EDGE_BACKUP_TARGETS__USB__PATH": "/media/new"}).settings
    assert {name: str(target.path) for name, target in settings.targets.items()} == {"USB": "/media/new"}


@pytest.mark.parametrize("content", ['{"seal.recipients": ""}', '{"dir": "/d", "seal": {"recipients": ""}}'])
def test_a_key_of_an_earlier_version_is_named_with_what_it_is_called_now(config: Path, content: str) -> None:
    """Also in a file whose other keys are Kanto's: nothing must be stored unencrypted by mistake."""
    (problem,) = problems(config, content)
    assert "unknown key 'seal.recipients'; it is called 'encryption.recipients' now" in problem


USB = {"targets.usb.path": "/media/usb", "stores.usb.provider": "local"}
OLD_KEYS = ({"schedule": {"store": "usb"}}, {"schedule.store": "usb"})


@pytest.mark.parametrize("old", OLD_KEYS)
def test_a_key_that_has_moved_still_works_with_a_warning(config: Path, old: dict[str, Any]) -> None:
    """Ten thousand devices get the new release before their configuration is renewed."""
    config.write_text(json.dumps({**USB, **old}))
    loaded = load({}, config, {"EDGE_BACKUP_SCHEDULE__JITTER": "5m"})
    kanto = loaded.settings.schedules["kanto"]
    assert (kanto.store, kanto.jitter) == (("usb",), timedelta(minutes=5))
    told = [notice.text for notice in loaded.notices if notice.level == "warning"]
    assert "'schedules.kanto.store' now" in told[0]
    assert "EDGE_BACKUP_SCHEDULE__JITTER" in told[1]


def test_an_empty_group_of_old_keys_sets_nothing(config: Path) -> None:
    config.write_text(json.dumps({"schedule": {}}))
    assert load({}, config, {}).settings.schedules == {}


def test_an_old_key_beside_its_new_one_is_a_problem(config: Path) -> None:
    """Which of two values is meant, nobody knows."""
    (problem,) = problems(config, json.dumps({"schedule.jitter": "1m", "schedules.kanto.jitter": "2m"}))
    assert "'schedules.kanto.jitter' is given twice" in problem


def test_a_later_source_overrides_an_old_key_under_its_new_name(config: Path) -> None:
    config.write_text(json.dumps({"schedule.jitter": "1m"}))
    settings = load({"schedules.kanto.jitter": "2m"}, config, {}).settings
    assert settings.schedules["kanto"].jitter == timedelta(minutes=2)
