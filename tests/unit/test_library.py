"""The face for programs of the device's own: over a real storage directory, without a broker."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from agent.embedded import Embedded
from agent.formats.zip import directory
from agent.jobs.engine import Engine
from agent.jobs.queries.history import History
from agent.jobs.requests.backup import BackupRequest
from agent.jobs.requests.control import HistoryRequest
from agent.jobs.staging import Staging
from agent.journal import Journal
from agent.library import BackupError, Preview, Unexportable, backup_info, create_backup, unpack_backup
from agent.settings.load import load
from tests.support.forked import exit_of
from tests.support.locales import EIGHT_BIT, without_utf8
from tests.support.trees import Dir, File, Found, Link, Spec, differences, make_tree, snapshot
from tests.support.waiting import wait_until

EXAMPLE = Path(__file__).parents[2] / "examples" / "library" / "back_up.py"
TREE: Spec = {"config": Dir(), "config/app.json": File(b"{}"), "link": Link("config")}
RECIPIENT = "age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef"
PASSWORDS = ["", "short", "correct horse battery staple"]


class Home:
    """A device: its data, its settings file, and a place for archives."""

    def __init__(self, root: Path) -> None:
        self.data, self.storage, self.file = root / "data", root / "storage", root / "out" / "device.age"
        self.file.parent.mkdir()
        make_tree(self.data, TREE)
        self.settings = {"dir": str(self.data), "storage": str(self.storage), "deviceId": "edge:device"}
        self.config = root / "config.json"
        self.set()

    def set(self, **settings: object) -> None:
        self.settings |= settings  # type: ignore[arg-type]  # a value of any kind is written as JSON
        self.config.write_text(json.dumps(self.settings))

    def change(self) -> dict[str, Found]:
        """Data that differ from what was saved, and what they are now."""
        (self.data / "config" / "app.json").write_bytes(b"newer")
        (self.data / "extra").write_bytes(b"stays")
        return snapshot(self.data)

    def unpack(self, password: str) -> Preview:
        return unpack_backup(password, self.file, config=self.config)

    def create(self, password: str) -> str:
        return create_backup(password, self.file, config=self.config).history_id

    def nothing_is_left(self) -> bool:
        names = [path.name for path in self.data.rglob(".edge-backup-*")]
        return names == [] and list((self.storage / "downloads").iterdir()) == []


def all_descriptors(storage: Path) -> list[int]:
    """Return this process's descriptors of files in the storage, as a fork would hand them on."""
    links = [(int(each.name), each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [number for number, each in links if each.resolve().is_relative_to(storage)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path.resolve())
    yield home
    Staging(home.storage).close()  # nobody holds it any more


@pytest.mark.parametrize("password", PASSWORDS)
def test_what_was_created_comes_back_with_the_same_password_alone(home: Home, password: str) -> None:
    """000: the password may be an empty string."""
    before = snapshot(home.data)
    made = create_backup(password, home.file, config=home.config)
    assert made.file == str(home.file)
    assert home.file.read_bytes().startswith(b"age-encryption.org/v1\n")
    home.change()
    for wrong in {*PASSWORDS, "another"} - {password}:
        with pytest.raises(BackupError) as caught:
            home.unpack(wrong)
        assert caught.value.code == "wrong-key"
    with home.unpack(password) as preview:
        assert (preview.added, preview.changed, preview.removed) == (0, 1, 0)
        job_id = preview.finalize()
    (home.data / "extra").unlink()
    assert [name for name in differences(before, snapshot(home.data)) if "app.json" in name] == []
    assert (home.data / "config" / "app.json").read_bytes() == b"{}"
    assert home.nothing_is_left()
    with closing(Journal(home.storage / "journal.db")) as journal:
        ids = [entry["id"] for entry in History(journal).history(HistoryRequest(), 4000)["entries"]]
    assert ids == [job_id, made.history_id]


def test_a_file_that_is_there_is_replaced_when_the_new_one_is_complete(home: Home) -> None:
    home.file.write_bytes(b"something else")
    with home.file.open("rb") as before:
        home.create("pass")
        assert before.read() == b"something else"
    assert home.file.stat().st_size > 100
    assert [path.name for path in home.file.parent.iterdir()] == [home.file.name]


def test_unexportable_entities_are_named_with_and_without_a_backup(home: Home) -> None:
    os.mkfifo(home.data / "pipe")
    (home.data / "tpm.key").write_bytes(b"bound to this hardware")
    home.set(unexportable="*.key")
    info = backup_info(config=home.config)
    assert (info.files, info.content_bytes, info.unexportable_count) == (1, 2, 2)
    made = create_backup("pass", home.file, config=home.config)
    assert sorted(made.unexportable, key=lambda each: each.name) == [
        Unexportable("pipe", "FIFO"),
        Unexportable("tpm.key", "unexportable by the device's settings"),
    ]
    assert set(made.unexportable) == set(info.unexportable)
    with home.unpack("pass") as preview:
        assert sorted(preview.unexportable) == ["pipe", "tpm.key"]


@pytest.mark.parametrize("leave", ["discard", "with", "failure"])
def test_a_preview_that_is_not_wanted_leaves_nothing(home: Home, leave: str) -> None:
    home.create("pass")
    before = home.change()
    if leave == "failure":
        with pytest.raises(KeyError), home.unpack("pass"):
            raise KeyError
    else:
        with home.unpack("pass") as preview:
            if leave == "discard":
                preview.discard()
    assert differences(before, snapshot(home.data)) == []
    assert home.nothing_is_left()


def test_a_preview_is_finalized_or_discarded_once(home: Home) -> None:
    home.create("pass")
    preview = home.unpack("pass")
    preview.discard()
    for again in (preview.discard, preview.finalize):
        with pytest.raises(BackupError, match="already"):
            again()


@pytest.mark.parametrize("leave", ["finalize", "discard", "the block"])
def test_a_child_process_does_not_decide_on_the_preview_of_its_parent(home: Home, leave: str) -> None:
    """A program that forks has the preview in both processes, and SQLite forbids the child the journal."""
    home.create("")
    home.change()

    def leave_in_child(preview: Preview) -> None:
        if leave == "the block":
            with preview:
                return
        with pytest.raises(BackupError, match="belongs to the parent process") as refused:
            getattr(preview, leave)()
        assert refused.value.code == "refused"

    with home.unpack("") as preview:
        assert exit_of(lambda: leave_in_child(preview)) == 0
        preview.finalize()
    assert (home.data / "config" / "app.json").read_bytes() == b"{}"
    assert home.nothing_is_left()


def test_threads_may_take_turns(home: Home) -> None:
    """As those of `asyncio.to_thread`: the decision failed, and kept the storage in use."""
    home.create("")
    home.change()
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as another:
        preview = one.submit(home.unpack, "").result()
        another.submit(preview.finalize).result()
    assert (home.data / "config" / "app.json").read_bytes() == b"{}"


def test_an_error_that_a_signal_handler_raises_ends_the_job_and_the_call(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a time limit of the program's own; when it came while the library looked, the call never ended."""
    idle, raised = Engine.idle, threading.Event()

    def interrupted(engine: Engine) -> bool:
        if not raised.is_set():
            raised.set()
            raise TimeoutError("the program's own limit")
        return idle(engine)

    monkeypatch.setattr(Engine, "idle", interrupted)
    with pytest.raises(TimeoutError, match="own limit"):
        home.create("")
    assert not home.file.exists()
    home.create("")


def test_a_child_process_that_lives_longer_does_not_hold_the_storage(home: Home) -> None:
    home.create("")
    with home.unpack("") as preview:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=all_descriptors(home.storage))
        preview.discard()
    with child:
        home.create("")
        assert child.poll() is None


def test_while_an_agent_runs_there_is_one_job_and_it_is_the_agent_s(home: Home) -> None:
    """Questions are possible all the same."""
    with closing(Staging(home.storage)):
        for call in (home.create, home.unpack):
            with pytest.raises(BackupError, match="in use by another agent") as caught:
                call("pass")
            assert caught.value.code == "busy"
        assert backup_info(config=home.config).files == 1
    assert not home.file.exists()


@pytest.mark.parametrize(
    ("settings", "code", "words"),
    [
        ({"dir": "/nowhere/at/all"}, "refused", "/nowhere/at/all"),
        ({"encryption": {"recipients": RECIPIENT}}, "refused", "encrypts for 'encryption.recipients' alone"),
        ({"backupCmd": "false"}, "hook-failed", "backupCmd"),
        ({"dir": ""}, "refused", "no directory"),
        ({"no such setting": 1}, "refused", "unknown key"),
    ],
)
def test_what_cannot_be_is_told_and_stores_nothing(
    home: Home, settings: dict[str, object], code: str, words: str
) -> None:
    home.set(**settings)
    with pytest.raises(BackupError, match=words) as caught:
        home.create("pass")
    assert caught.value.code == code
    assert "pass" not in str(caught.value).replace("passcode", "")
    assert not home.file.exists()


def test_what_a_command_collects_cannot_be_told_beforehand(home: Home) -> None:
    home.set(backupCmd="true")
    with pytest.raises(BackupError, match="backupCmd collects") as caught:
        backup_info(config=home.config)
    assert caught.value.code == "refused"


def test_a_file_in_what_is_saved_is_refused(home: Home) -> None:
    with pytest.raises(BackupError, match="must not be inside") as caught:
        create_backup("pass", home.data / "self.age", config=home.config)
    assert caught.value.code == "refused"


@pytest.mark.parametrize("content", [b"", b"no archive", b"age-encryption.org/v1\n"])
def test_what_is_no_backup_changes_nothing(home: Home, content: bytes) -> None:
    home.file.write_bytes(content)
    before = snapshot(home.data)
    with pytest.raises(BackupError):
        home.unpack("pass")
    assert differences(before, snapshot(home.data)) == []
    assert home.nothing_is_left()


def test_a_file_that_is_not_there_is_not_found(home: Home) -> None:
    with pytest.raises(BackupError) as caught:
        home.unpack("pass")
    assert caught.value.code == "not-found"


def test_an_agent_s_device_id_is_used_when_the_settings_have_none(home: Home) -> None:
    """Or the agent would take the archive for that of another device."""
    home.set(deviceId="")
    Staging(home.storage).close()
    with closing(Journal(home.storage / "journal.db")) as journal:
        journal.notes.keep("device", "edge:asked")
    embedded = Embedded(load({}, home.config, {}).settings)
    try:
        assert embedded.engine.device.id == "edge:asked"
    finally:
        embedded.close()


def test_a_device_that_nobody_named_gets_its_backup_back_when_its_storage_is_lost(home: Home) -> None:
    """And when it has a name later on."""
    home.set(deviceId="")
    home.create("pass")
    home.change()
    home.set(deviceId="edge:device")
    home.unpack("pass").discard()
    home.set(deviceId="", storage=str(home.storage.with_name("new")))
    with home.unpack("pass") as preview:
        preview.finalize()
    assert (home.data / "config" / "app.json").read_bytes() == b"{}"


def test_ctrl_c_ends_the_job_before_the_call_ends(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.set(backupCmd="sleep 60", hookTimeout="1h")
    embedded = Embedded(load({}, home.config, {}).settings)
    looked = 0
    idle = embedded.engine.idle

    def interrupted() -> bool:
        nonlocal looked
        looked += 1
        if looked == 3:
            raise KeyboardInterrupt
        return idle()

    monkeypatch.setattr(embedded.engine, "idle", interrupted)
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        embedded.carry_out(BackupRequest(output=str(home.file)))
    assert threading.active_count() == threads
    embedded.close()
    assert not home.file.exists()


@pytest.mark.parametrize("moment", ["a preview waits", "all is in place"])
def test_a_program_that_is_killed_leaves_the_old_data(home: Home, tmp_path: Path, moment: str) -> None:
    """Whoever opens the storage directory next brings it into order: an agent, or the library."""
    home.create("pass")
    before = home.change()
    reached = tmp_path / "reached"
    home.set(afterRestoreCmd=f"sh -c 'echo $$ > {reached}; exec sleep 60'")
    previewing = moment == "a preview waits"
    wait = f"open({str(reached)!r}, 'w'), time.sleep(60)" if previewing else "0"
    program = (
        "import time; from agent.library import unpack_backup;"
        f" p = unpack_backup('pass', {str(home.file)!r}, config={str(home.config)!r}); {wait}; p.finalize()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    try:
        wait_until(lambda: reached.exists() and (previewing or reached.read_text()), what=moment)
    finally:
        process.kill()
        process.wait(10)
        if hook := reached.read_text():
            os.kill(int(hook), signal.SIGKILL)  # nobody ends it with a program that was killed
    home.set(afterRestoreCmd="")
    Embedded(load({}, home.config, {}).settings).close()
    assert differences(before, snapshot(home.data)) == []
    assert home.nothing_is_left()


def test_the_example_runs(home: Home) -> None:
    answer = subprocess.run(
        [sys.executable, str(EXAMPLE), str(home.config), str(home.file)],
        input="correct horse\n", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[0] == "to save: 1 files, 2 bytes"
    assert answer.stdout.splitlines()[-2:] == ["a restore would add 0, change 0, keep 2", "restored"]
    assert not zipfile.is_zipfile(home.file)


@pytest.mark.parametrize("locale", EIGHT_BIT)
def test_a_program_whose_locale_is_not_utf8_is_told_what_to_set(
    home: Home, tmp_path: Path, locale: str
) -> None:
    """It cannot be started again from within, and would restore files under other names."""
    program = f"from agent.library import backup_info; backup_info(config={str(home.config)!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, env={**os.environ, **without_utf8(locale, tmp_path)}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "BackupError: this program's locale has the encoding" in done.stderr
    assert "set PYTHONUTF8=1" in done.stderr


def test_a_large_tree_needs_no_directory_but_the_storage_for_temporary_files(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the unit, and in a container with a root that is read-only, no other can be written."""
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    monkeypatch.setattr(directory, "MEMORY_BYTES", 1)
    made = create_backup(PASSWORDS[-1], home.file, config=home.config)
    assert made.file == str(home.file)
