"""Log lines have a form for each reader, and logging outlives disk trouble."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
import structlog

from agent import log
from agent.log import ClockJumps
from agent.log.file import RotatingLogFile
from agent.settings import Settings
from agent.settings.load import load
from tests.contract.local_targets import small_disk
from tests.support.special_files import SPECIAL, special

MARK = "marked-secret-3f7a"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def settings(log_file: Path | str = "", level: str = "INFO") -> Settings:
    return load({"logFile": str(log_file), "logLevel": level}, None, {}).settings


def json_lines(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_pipe_gets_json_lines() -> None:
    stream = io.StringIO()
    log.setup(settings(), stream)
    structlog.get_logger("agent.test").warning("archive is large", size_bytes=5, path=Path("/x"))
    (line,) = json_lines(stream.getvalue())
    assert str(line.pop("time")).endswith("Z")
    assert line == {
        "level": "warning",
        "logger": "agent.test",
        "event": "archive is large",
        "size_bytes": 5,
        "path": "/x",
    }


def test_a_terminal_gets_key_and_value() -> None:
    stream = Terminal()
    log.setup(settings(), stream)
    structlog.get_logger("agent.test").info("job done", name="a b", count=2, empty="")
    _, rest = stream.getvalue().split(" ", 1)
    assert rest == 'INFO    job done name="a b" count=2 empty=""\n'


def test_the_journal_gets_the_priority_on_every_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        log.setup(settings(level="TRACE"), stream)
        logger = structlog.get_logger("agent.test")
        logger.debug("bytes came", count=1)
        logger.error("it failed")
        try:
            raise RuntimeError("of our own")
        except RuntimeError:
            logger.exception("internal error")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert lines[:3] == ["<7>bytes came count=1", "<3>it failed", "<3>internal error"]
    assert lines[3] == "<3>Traceback (most recent call last):"
    assert all(line.startswith("<3>") for line in lines[3:])


def test_stderr_that_is_not_the_journal_gets_no_priority(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    with (tmp_path / "other").open("w+") as stream:
        log.setup(settings(), stream)
        structlog.get_logger("agent.test").info("hello")
        stream.seek(0)
        assert json_lines(stream.read())[0]["event"] == "hello"


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("TRACE", ["debug", "info", "warning", "error"]),
        ("debug", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("WARN", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_levels_are_kantos(level: str, seen: list[str]) -> None:
    stream = io.StringIO()
    log.setup(settings(level=level), stream)
    logger = structlog.get_logger("providers.test")
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)("x")
    assert [line["level"] for line in json_lines(stream.getvalue())] == seen


def test_libraries_are_heard_from_warning_upwards_even_at_trace() -> None:
    stream = io.StringIO()
    log.setup(settings(level="TRACE"), stream)
    library = logging.getLogger("some.library")
    library.debug("GET /key?signature=%s", MARK)
    library.warning("retrying https://host/key?signature=%s", MARK)
    (line,) = json_lines(stream.getvalue())
    assert (line["logger"], line["event"]) == ("some.library", "retrying https://host/key?***")


def test_a_jobs_thread_binds_its_correlation_id_for_itself_only() -> None:
    stream = io.StringIO()
    log.setup(settings(), stream)

    def job() -> None:
        structlog.contextvars.bind_contextvars(correlation_id="X#1")
        structlog.get_logger("agent.job").info("inside")
        logging.getLogger("some.library").warning("from a library")

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    structlog.get_logger("agent.job").info("outside")
    lines = json_lines(stream.getvalue())
    assert [line.get("correlation_id") for line in lines] == ["X#1", "X#1", None]


def test_secrets_are_hidden_in_every_form(tmp_path: Path) -> None:
    stream, file = Terminal(), tmp_path / "log.txt"
    log.setup(settings(file, "TRACE"), stream)
    logger = structlog.get_logger("agent.test")
    logger.debug("options", options={"aws.secret.access.key": MARK, "https.url": f"https://h/p?sig={MARK}"})
    try:
        raise RuntimeError(f"GET https://host/key?token={MARK}")
    except RuntimeError:
        logger.exception("failed", password=MARK)
    assert MARK not in stream.getvalue() + file.read_text()
    assert "***" in stream.getvalue()


@pytest.mark.parametrize("rich", ["import rich", "import sys; sys.modules['rich'] = None"])
def test_a_traceback_never_shows_local_variables(tmp_path: Path, rich: str) -> None:
    """structlog's own formatters show them as soon as the library rich is installed."""
    script = f"""{rich}
import io, sys, threading, structlog
from agent import log
from agent.settings.load import load
class Terminal(io.StringIO):
    def isatty(self): return True
def connect(secret):
    options = {{"password": secret}}
    raise RuntimeError("of our own")
secret = sys.stdin.read()
terminal = Terminal()
for stream in (None, terminal):
    log.setup(load({{"logFile": {str(tmp_path / "log")!r}}}, None, {{}}).settings, stream)
    try:
        connect(secret)
    except RuntimeError:
        structlog.get_logger("agent.test").exception("failed", secret=secret)
sys.stderr.write(terminal.getvalue())
thread = threading.Thread(target=connect, args=(secret,))
thread.start()
thread.join()
connect(secret)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], input=MARK, capture_output=True, text=True, check=False
    )
    written = done.stderr + (tmp_path / "log").read_text()
    assert written.count("RuntimeError: of our own") == 6, written
    assert MARK not in written


def test_a_hostile_text_cannot_forge_a_line_or_drive_a_terminal() -> None:
    stream = Terminal()
    log.setup(settings(), stream)
    structlog.get_logger("agent.test").info("bad\nERROR forged", name="\x1b[2J\u202e")
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()
    assert "\u202e" not in stream.getvalue()


def test_the_file_gets_json_lines_and_its_directory_is_made(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "log.txt"
    log.setup(settings(file), io.StringIO())
    structlog.get_logger("agent.test").info("tür", path="\udcff")
    (line,) = json_lines(file.read_text())
    assert (line["event"], line["path"]) == ("tür", "\udcff")
    assert file.stat().st_mode & 0o777 == 0o640


def test_setting_up_again_does_not_double_the_lines(tmp_path: Path) -> None:
    stream, file = io.StringIO(), tmp_path / "log.txt"
    log.setup(settings(file), stream)
    log.setup(settings(file), stream)
    structlog.get_logger("agent.test").info("once")
    assert len(stream.getvalue().splitlines()) == len(file.read_text().splitlines()) == 1


def test_a_file_that_cannot_be_opened_is_an_error_line_on_stderr(tmp_path: Path) -> None:
    stream = io.StringIO()
    log.setup(settings(tmp_path), stream)
    structlog.get_logger("agent.test").info("still here")
    lines = json_lines(stream.getvalue())
    assert [(line["level"], line["event"]) for line in lines] == [
        ("error", "log file cannot be opened; logging to stderr only"),
        ("info", "still here"),
    ]
    assert lines[0]["file"] == str(tmp_path)


def test_a_full_disk_is_reported_once_and_stops_nothing(tmp_path: Path) -> None:
    stream = io.StringIO()
    with small_disk(tmp_path / "disk") as disk:
        log.setup(settings(str(disk / "log.txt")), stream)
        with suppress(OSError):
            (disk / "filler").write_bytes(bytes(2 << 20))
        for number in range(3):
            structlog.get_logger("agent.test").info("line", number=number)
        log.setup(settings(), stream)  # the file is closed before its disk goes
    assert [line["event"] for line in json_lines(stream.getvalue())] == [
        "line",
        f"log file not writable; logging to stderr only: {tmp_path}/disk/log.txt",
        "line",
        "line",
    ]


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("agent.test", logging.INFO, "", 0, text, None, None)


def test_the_file_is_rotated_by_size_and_older_ones_by_count(tmp_path: Path) -> None:
    (tmp_path / "log.txt.9").write_text("from a time with a higher count")
    (tmp_path / "log.txt.bak").write_text("not ours")
    handler = RotatingLogFile(tmp_path / "log.txt", size_bytes=100, count=2, max_age_days=0)
    for number in range(10):
        handler.emit(record(f"{number} {'x' * 60}"))
    handler.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "log.txt",
        "log.txt.1",
        "log.txt.2",
        "log.txt.bak",
    ]
    assert [line[0] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["8", "9"]
    assert [line[0] for line in (tmp_path / "log.txt.1").read_text().splitlines()] == ["6", "7"]


def test_older_files_are_removed_by_age(tmp_path: Path) -> None:
    for name, age_days in (("log.txt.1", 27), ("log.txt.2", 29)):
        (tmp_path / name).write_text("old")
        last_write_s = time.time() - age_days * 86_400
        os.utime(tmp_path / name, (last_write_s, last_write_s))
    RotatingLogFile(tmp_path / "log.txt", size_bytes=100, count=5, max_age_days=28).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.txt", "log.txt.1"]


def test_no_line_is_lost_when_the_open_file_cannot_be_written_any_more(tmp_path: Path) -> None:
    file = tmp_path / "log.txt"
    handler = RotatingLogFile(file, size_bytes=1000, count=1, max_age_days=0)
    assert handler.stream is not None
    os.close(handler.stream.fileno())  # every write now fails with EBADF
    handler.emit(record("first"))
    handler.emit(record("second"))
    handler.close()
    assert file.read_text() == "first\nsecond\n"


def test_a_log_file_that_was_moved_away_is_opened_anew(tmp_path: Path) -> None:
    """logrotate moves it and may tell nobody: lines must not go where no one looks."""
    file = tmp_path / "a.log"
    log.setup(settings(file), io.StringIO())
    structlog.get_logger("agent.test").warning("before")
    file.rename(tmp_path / "a.log-1")
    structlog.get_logger("agent.test").warning("after")
    assert [line["event"] for line in json_lines(file.read_text())] == ["after"]


def test_reopening_makes_the_log_file_again(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    log.setup(settings(file), io.StringIO())
    structlog.get_logger("agent.test").warning("before")
    file.unlink()
    log.reopen()
    structlog.get_logger("agent.test").warning("after")
    assert [line["event"] for line in json_lines(file.read_text())] == ["after"]


def test_a_link_in_the_place_of_the_log_file_is_not_followed(tmp_path: Path) -> None:
    """In a directory that others may write to, it would let them append to any file."""
    victim = tmp_path / "victim"
    victim.write_text("")
    (tmp_path / "a.log").symlink_to(victim)
    stream = io.StringIO()
    log.setup(settings(tmp_path / "a.log"), stream)
    structlog.get_logger("agent.test").warning("said")
    assert victim.read_text() == ""
    assert "log file cannot be opened" in stream.getvalue()


def test_missing_directories_of_the_log_file_are_closed_to_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        log.setup(settings(tmp_path / "one" / "two" / "a.log"), io.StringIO())
    finally:
        os.umask(before)
    for made in ("one", "one/two"):
        assert (tmp_path / made).stat().st_mode & 0o7777 == 0o750


def test_a_long_text_of_a_stranger_is_cut_in_the_log() -> None:
    stream = io.StringIO()
    log.setup(settings(), stream)
    structlog.get_logger("agent.test").warning("command refused", reason="x" * 100_000)
    (line,) = json_lines(stream.getvalue())
    assert len(str(line["reason"])) == 2000


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_not_taken_for_the_log_file(tmp_path: Path, kind: str) -> None:
    """A pipe would be waited for, and a device be written to."""
    with special(tmp_path / "log.txt", kind) as before:
        with pytest.raises(OSError, match=r"no regular file|directory|link|device"):
            RotatingLogFile(tmp_path / "log.txt", size_bytes=100, count=2, max_age_days=0)
        assert os.lstat(tmp_path / "log.txt").st_mode == before.st_mode


def test_a_directory_of_the_log_file_that_becomes_a_link_leads_nowhere(tmp_path: Path) -> None:
    """Neither a new file nor a rotation follows it; the lines go to stderr."""
    for name in ("there", "elsewhere"):
        (tmp_path / name).mkdir()
    file = RotatingLogFile(tmp_path / "there/agent.log", 10, 2, 0)
    file.emit(logging.makeLogRecord({"msg": "one line"}))
    (tmp_path / "there").rename(tmp_path / "moved")
    (tmp_path / "there").symlink_to("elsewhere")
    (tmp_path / "elsewhere/agent.log").write_text("of somebody else")
    for _ in range(3):
        file.emit(logging.makeLogRecord({"msg": "another line"}))
    file.close()
    assert os.listdir(tmp_path / "elsewhere") == ["agent.log"]
    assert (tmp_path / "elsewhere/agent.log").read_text() == "of somebody else"


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_has_the_name_of_an_older_log_file_is_not_moved_or_removed(tmp_path: Path, kind: str) -> None:
    """Rotation renames `log.txt.1` and removes `log.txt.9`: neither is done to what is no log file."""
    handler = RotatingLogFile(tmp_path / "log.txt", size_bytes=1, count=2, max_age_days=0)
    with special(tmp_path / "log.txt.1", kind) as first, special(tmp_path / "log.txt.9", kind) as ninth:
        for text in ("full", "rotate"):
            handler.handle(logging.makeLogRecord({"msg": text}))
        handler.close()
        assert os.lstat(tmp_path / "log.txt.1").st_ino == first.st_ino
        assert os.lstat(tmp_path / "log.txt.9").st_ino == ninth.st_ino
    assert not (tmp_path / "log.txt.2").exists()


def test_the_first_line_after_the_clock_was_set_says_by_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a reader sees a job that ends before it began, and nothing that explains it."""
    jumps = ClockJumps()
    assert jumps(None, "info", {}) == {}
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 365 * 86_400)
    assert jumps(None, "info", {}) == {"clock_set_by_s": -31_536_000}
    assert jumps(None, "info", {}) == {}
