"""Situations from public trackers about finding and restoring the right archive, on the installed program.

At the device's command line, for ZIP archives and for a repository.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.base.times import format_time
from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.repositories import stores_on_a_stick
from tests.support.waiting import wait_until

NO_BROKER = 1
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@contextmanager
def device(tmp_path: Path, name: str, **settings: Any) -> Iterator[Run]:
    """A device with the stores `zips` and `snapshots`; `run` calls `edge-backup` there."""
    agent = AgentProcess(tmp_path / name, NO_BROKER, deviceId=f"edge:{name}", mode="lax", **settings)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(PROGRAM), *arguments, "--config", str(agent.work / "config.json")]
        return subprocess.run(
            command, cwd=agent.work, env=agent.environment, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    with agent:
        wait_until((agent.storage / "http.sock").exists, what="the agent")
        yield run


def made(run: Run, store: str, directory: Path) -> dict[str, Any]:
    done = run("backup", "--store", store, "--dir", str(directory), "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_right_archive_is_found_on_the_device(tmp_path: Path) -> None:
    """Three reports, on one device, because a start of the agent takes its time."""
    stores, store = stores_on_a_stick(tmp_path), "zips"
    go_on, app, logs = tmp_path / "go-on", tmp_path / "app", tmp_path / "logs"
    for directory in (app, logs):
        directory.mkdir()
        (directory / "what").write_text("good")
    go_on.touch()
    waits = tmp_path / "wait.sh"
    waits.write_text(f"#!/bin/sh\nuntil [ -e {go_on} ]; do sleep 0.05; done\n")
    waits.chmod(0o755)
    with device(tmp_path, "one", **stores, beforeBackupCmd=str(waits)) as run:
        first, made_s = made(run, store, app), int(time.time())
        wait_until(lambda: time.time() >= made_s + 1, what="the next second: lists show no fractions")

        # pgbackrest#817, #628: a backup that began before the time, and read what was changed after it.
        go_on.unlink()
        begun = [str(PROGRAM), "backup", "--store", store, "--dir", str(app), "--config", "config.json"]
        with subprocess.Popen(begun, cwd=tmp_path / "one", stdout=subprocess.DEVNULL) as second:
            try:
                wait_until(lambda: run("status").stdout.startswith("backup "), what="the backup")
                before = format_time(datetime.now(UTC))
                (app / "what").write_text("bad")
            finally:
                go_on.touch()
            assert second.wait(60) == 0
        done = run("restore", "--store", store, "--dir", str(app), "--before", before)
        assert (done.returncode, (app / "what").read_text()) == (0, "good"), done.stderr
        assert f"'{first['archive']}' was chosen" in done.stdout

        # pgbackrest#2452, #2117: a time as the lists show it, and one that has no zone.
        listed = run("archives", "--store", store).stdout
        shown = next(line[:20] for line in listed.splitlines() if line.startswith("20"))
        pasted = run("restore", "--store", store, "--dir", str(app), "--before", shown)
        assert (pasted.returncode, first["archive"] in pasted.stdout) == (0, True), pasted.stderr
        local = run("restore", "--store", store, "--dir", str(app), "--before", "2026-11-22 21:00:00")
        assert (local.returncode, "expected an RFC 3339 time such as" in local.stderr) == (1, True)

        # restic#1165, #1884, k8up#867: the latest archive of all is of something else.
        made(run, store, logs)
        file = run("extract", str(app / "what"), "--store", store)
        assert (file.returncode, file.stdout) == (0, "bad"), file.stderr
        nowhere = run("extract", "/srv/what", "--store", store)
        assert nowhere.returncode == 1
        assert f"no archive of '/srv/what' is here, only of '{logs}'" in nowhere.stderr


def test_a_second_device_says_whose_archives_are_there_and_removes_none(tmp_path: Path) -> None:
    """bivac#339, backintime#359: nothing was found, without a word; duplicati#3845: all was removed."""
    stores, store = stores_on_a_stick(tmp_path), "snapshots"
    stores["stores"]["snapshots"]["prefix"] = "fleet/{device}"
    data = tmp_path / "data"
    data.mkdir()
    (data / "what").write_text("good")
    with device(tmp_path, "one", **stores) as run:
        old = made(run, store, data)["archive"]
    (data / "what").write_text("changed")
    with device(tmp_path, "two", **stores, **{"retention.keepLast": 1}) as run:
        none = run("restore", "--store", store, "--dir", str(data))
        assert (none.returncode, (data / "what").read_text()) == (1, "changed")
        assert "one of another device is named by its id ('restore.fromDevice')" in none.stderr
        listed = run("archives", "--store", store)
        assert (listed.returncode, listed.stdout) == (0, "snapshots: no archives of this device\n")
        assert run("archives", "--store", store, "--json").stdout == ""
        for _ in range(2):
            made(run, store, data)
        assert run("prune").returncode == 0
        there = json.loads(run("archives", "--store", store, "--device", "edge:one", "--json").stdout)
        assert there["name"] == old
        unknown = run("archives", "--store", store, "--device", "edge:three")
        assert unknown.stdout == "snapshots: no archives of edge:three\n"
        done = run("restore", "--store", store, "--dir", str(data), "--from-device", "edge:one")
        assert (done.returncode, (data / "what").read_text()) == (0, "good"), done.stderr
