"""The command line: Kanto's flags, exit statuses, and that it starts cheaply."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent import __version__
from agent.cli import SUBCOMMANDS, main
from agent.cli.settings import parse_settings, settings_given
from agent.send.progress import size_text
from agent.settings.keys import KEYS
from agent.settings.sections import FIRST, SECTIONS

MARK = "marked-secret-3f7a"


def arguments(*argv: str) -> tuple[Path | None, dict[str, str]]:
    return settings_given(parse_settings("edge-backup run", {}, argv))


def test_kantos_command_line_is_understood() -> None:
    argv = [
        "-configFile",
        "/etc/file-backup/config.json",
        "-dir",
        "/data",
        "-mode",
        "lax",
        "-broker",
        "tcp://h:1",
    ]
    assert arguments(*argv) == (
        Path("/etc/file-backup/config.json"),
        {"dir": "/data", "mode": "lax", "broker": "tcp://h:1"},
    )


def test_without_a_command_it_says_where_the_commands_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """Most commands need no arguments, so the error must not ask for them."""
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.endswith("edge-backup: error: a command is missing; 'edge-backup --help' lists them\n")


@pytest.mark.parametrize("spelling", ["--config", "-config", "--configFile", "-configFile"])
def test_the_configuration_file_has_these_spellings(spelling: str) -> None:
    assert arguments(spelling, "x.json") == (Path("x.json"), {})


def test_without_an_option_a_command_reads_the_usual_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever types `edge-backup status` on a device means the agent that runs there."""
    installed = tmp_path / "installed.json"
    monkeypatch.setattr("agent.cli.settings.DEFAULT_CONFIG", installed)
    monkeypatch.delenv("EDGE_BACKUP_CONFIG", raising=False)
    assert arguments() == (None, {})
    installed.write_text("{}")
    assert arguments() == (installed, {})
    monkeypatch.setenv("EDGE_BACKUP_CONFIG", "/other.json")
    assert arguments() == (Path("/other.json"), {})
    assert arguments("--config", "given.json") == (Path("given.json"), {})


def test_every_property_of_kantos_is_an_option_with_one_or_two_dashes() -> None:
    names = [key.name for key in KEYS if key.kanto]
    for dashes in ("-", "--"):
        argv = [f"{dashes}{name}=x" for name in names]
        assert arguments(*argv) == (None, dict.fromkeys(names, "x"))


def test_a_switch_needs_no_value_as_in_go() -> None:
    argv = ["-active", "-checksum=false", "-keepUploaded", "-dir", "/d"]
    assert arguments(*argv)[1] == {"active": "true", "checksum": "false", "keepUploaded": "true", "dir": "/d"}


def test_any_setting_can_be_set_by_its_key() -> None:
    argv = ["--set", "archive.level=fast", "--set", "deviceId=a=b", "--set", "logFile="]
    assert arguments(*argv)[1] == {"archive.level": "fast", "deviceId": "a=b", "logFile": ""}


@pytest.mark.parametrize(
    "argv",
    [["-nonsense"], ["-mo", "lax"], ["--mo", "lax"], ["--set", "x"], ["--set", "=x"], ["stray"], ["-dir"]],
)
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments(*argv)
    assert caught.value.code == 2
    assert "edge-backup run: error:" in capsys.readouterr().err


def test_check_config_prints_what_is_in_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"mode": "scoped", "unknownOne": 1, "dir": "/data"}))
    monkeypatch.setenv("EDGE_BACKUP_LOG_LEVEL", "debug")
    assert main(["check-config", "--config", str(config), "-dir", "/other", "-password", MARK]) == 0
    output = capsys.readouterr()
    shown = json.loads(output.out)
    assert (shown["mode"], shown["logLevel"], shown["dir"], shown["password"]) == (
        "scoped",
        "DEBUG",
        "/other",
        "***",
    )
    assert output.err.splitlines() == [
        f"error: {config}: unknown key 'unknownOne' is ignored",
        "warning: every user of this device can read password on the command line; put it into a file",
        "warning: dir: '/other' does not exist; the agent does not make it",
    ]
    assert MARK not in output.out + output.err


@pytest.mark.parametrize("command", ["check-config", "run"])
def test_wrong_settings_exit_with_2_and_name_every_problem(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "-mode", "loose", "-period", "never"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert [line.split(":")[0] for line in output.err.splitlines()] == ["mode", "period"]


def run_python(*argv: str) -> str:
    return subprocess.run(
        [sys.executable, *argv], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_python_m_agent_is_the_command() -> None:
    assert run_python("-m", "agent", "--version") == f"edge-backup {__version__}\n"


def test_version_and_help_import_nothing_heavy() -> None:
    program = (
        "import sys\nfrom agent.cli import main\n"
        "try: main([sys.argv[1]])\nexcept SystemExit: pass\n"
        "print(sorted({'pydantic', 'structlog', 'paho', 'boto3', 'rich'} & set(sys.modules)))"
    )
    for option in ("--version", "-version", "--help"):
        assert run_python("-c", program, option).splitlines()[-1] == "[]"


def test_help_lists_every_command() -> None:
    output = run_python("-m", "agent", "--help")
    assert all(f"  {name} " in output for name in SUBCOMMANDS)


def help_of_run(*arguments: str) -> str:
    return run_python("-m", "agent", "run", *arguments)


def test_help_of_run_has_the_settings_to_begin_with_and_names_the_sections() -> None:
    shown = help_of_run("--help")
    assert [name for name in FIRST if f"  {name}  (" not in shown] == []
    assert [section.title for section in SECTIONS if section.title not in shown] == []
    assert "logFileMaxAge" not in shown, "124 settings are too many to begin with"
    assert help_of_run("-help") == shown, "with one dash, as Go has it"


def test_help_all_has_every_setting_and_help_of_a_section_its_own() -> None:
    everything = help_of_run("--help", "all")
    assert [key.name for key in KEYS if f"  {key.name}  (" not in everything] == []
    http = help_of_run("--help", "http")
    assert "http.tokenFile" in http
    assert "logLevel" not in http


@pytest.mark.parametrize("first", ["import asyncio", "import asyncio.events", "from asyncio import Queue"])
def test_a_service_loads_asyncio_when_somebody_uses_it(first: str) -> None:
    """structlog imports it for loggers that no service has: 2 MiB. Other libraries find the real package."""
    script = f"""
import sys, threading
from agent.cli import spare_memory
spare_memory()
import structlog
# In newer ones the standard library itself asks for a member at once.
assert sys.version_info >= (3, 13) or "run" not in vars(sys.modules["asyncio"])
assert not {"rich", "greenlet"} & sys.modules.keys()
import rich
{first}
failed = []
def use():
    import asyncio
    try:
        asyncio.run(asyncio.sleep(0))
    except Exception as error:
        failed.append(error)
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
import asyncio
print(failed, hasattr(asyncio, "nothing"), structlog.stdlib.asyncio is asyncio)
"""
    assert run_python("-c", script) == "[] False True\n"


@pytest.mark.parametrize("first", ["import urllib.request", "from urllib.request import getproxies"])
def test_a_service_loads_the_opener_of_urls_when_somebody_uses_it(first: str) -> None:
    """paho imports it, and `email` with it, for a proxy that takes PySocks, which no device has."""
    script = f"""
import sys
from agent.cli import spare_memory
spare_memory()
import agent.service
print(sorted({{"http.client", "email.parser", "email.feedparser"}} & sys.modules.keys()))
{first}
import urllib.parse, urllib.request as opener
print(opener.Request("http://host/").host, urllib.request is opener, hasattr(opener, "nothing"))
"""
    assert run_python("-c", script) == "[]\nhost True False\n"


@pytest.mark.parametrize("name", ["inspect", "extract"])
def test_a_command_that_opens_archives_loads_nothing_that_it_does_not_need(name: str) -> None:
    """Beside scrypt's 16 MiB and an index, they would take it past the 64 MiB that are promised."""
    program = (
        "import sys\nfrom agent.cli import main\n"
        f"try: main([{name!r}, '--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'rich', 'greenlet', 'ssl', 'http.client', 'boto3'} & set(sys.modules)))"
    )
    assert run_python("-c", program).splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_command_has_its_entry(name: str) -> None:
    module, function = SUBCOMMANDS[name].entry.split(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_check_config_writes_the_keys_of_today(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.json"
    file.write_text(
        '{"dir": "/d", "seal.workFactor": 15, "seal": {"recipients": ""}, "mode": "scoped",'
        ' "schedule": {"store": ""}, "schedule.jitter": "5m"}'
    )
    file.chmod(0o640)
    assert main(["check-config", "--config", str(file)]) == 2
    assert "it is called 'encryption.workFactor' now" in capsys.readouterr().err
    assert main(["check-config", "--config", str(file), "--write"]) == 0
    assert json.loads(file.read_text()) == {
        "dir": "/d", "encryption.workFactor": 15, "encryption": {"recipients": ""}, "mode": "scoped",
        "schedules.kanto.store": "", "schedules.kanto.jitter": "5m",
    }  # fmt: skip
    assert file.stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1 << 20, "1 MiB"), ((1 << 20) - 1, "1 MiB"), (5 << 50, "5120 TiB")],
)
def test_a_size_is_told_in_digits(size_bytes: int, text: str) -> None:
    """An archive of 1020 bytes was one of `1.02e+03 B`."""
    assert size_text(size_bytes) == text


AGENT = ["--config", "CONFIG"]


@pytest.mark.parametrize(
    "argv",
    [
        ["show", "ID", *AGENT],
        ["show", *AGENT, "ID"],
        [*AGENT, "show", "ID"],
        ["show", "--json", *AGENT, "ID"],
        ["show", "-config", "CONFIG", "ID"],
        ["show", "--set", "storage=STORAGE", "ID"],
        ["show", "-storage", "STORAGE", "ID"],
    ],
)
def test_options_stand_before_or_after_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    """`show --config FILE ID` asked for a job with the name of the file."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"storage": str(tmp_path / "st")}))
    given = [each.replace("CONFIG", str(config)).replace("STORAGE", str(tmp_path / "st")) for each in argv]
    assert main(given) == 3
    assert f"no agent runs with storage '{tmp_path / 'st'}'" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["FILE", "--files"], ["--files", "FILE"], ["--config", "CONFIG", "FILE"]])
def test_a_file_to_inspect_stands_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    (tmp_path / "config.json").write_text("{}")
    given = [each.replace("CONFIG", str(tmp_path / "config.json")) for each in argv]
    assert main(["inspect", *given]) == 1
    assert capsys.readouterr().err == "'FILE' cannot be read: No such file or directory\n"


def test_a_value_with_the_name_of_an_option_of_settings_is_the_commands_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`restore --mode` and `backup --dir` are no settings."""
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"storage": str(tmp_path / "st"), "mode": "lax"}))
    assert main(["restore", "--mode", "exact", "--dir", "/data", "--config", str(config)]) == 3
    assert "no agent runs" in capsys.readouterr().err


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_ctrl_c_ends_every_command_with_130_and_no_traceback(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As shells have it, so that a script sees that nobody waited for the end."""

    def interrupted(_argv: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(SUBCOMMANDS[name].entry.replace(":", "."), interrupted)
    assert main([name]) == 130


def status_and_errors(command: list[str], **options: Any) -> tuple[int, str]:
    """Run a command; return its exit status and its standard error."""
    done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, **options)
    return done.returncode, done.stderr


@pytest.mark.parametrize("arguments", [["check-config"], ["init", "--dir", "data", "--config", "c.json"]])
def test_a_working_directory_that_was_removed_is_told_in_a_line(tmp_path: Path, arguments: list[str]) -> None:
    """A shell still stands in a directory that was removed or replaced; commands ended with a traceback."""
    shell = ["sh", "-c", 'mkdir gone && cd gone && rmdir ../gone && exec "$@"', "sh"]
    ended = status_and_errors([*shell, sys.executable, "-m", "agent", *arguments], cwd=tmp_path)
    assert ended == (2, "the working directory was removed: change to one that is there\n")


@pytest.mark.parametrize("arguments", [["openapi"], ["run", "--help", "all"], ["setup", "--print"]])
def test_output_on_a_full_disk_is_told_in_a_line(arguments: list[str]) -> None:
    """`edge-backup history > FILE` ended with a traceback."""
    with open("/dev/full", "w") as full:
        ended = status_and_errors([sys.executable, "-m", "agent", *arguments], stdout=full)
    assert ended == (1, "standard output cannot be written: No space left on device\n")
