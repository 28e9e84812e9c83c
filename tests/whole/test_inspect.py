"""`edge-backup inspect`: over files and over places; no agent runs."""

import json
import os
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.formats.age.keys import Passcode
from agent.formats.age.payload import encrypted
from agent.formats.archive_names import archive_name, device_tag
from agent.formats.manifest import FORMAT
from tests.support.agent_process import PROGRAM
from tests.support.archives import archive_of
from tests.support.http_server import HttpServer, Received, Say
from tests.support.local_agent import edge_backup
from tests.support.trees import Dir, File, Link, make_tree
from tests.unit.test_manifest import LABEL, ORIGIN, START, block_of, made
from tests.unit.test_restore_origin import with_block

PASSCODE = "correct horse"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir()
    make_tree(root, {"d": Dir(0o750), "d/f\n": File(b"content", 0o640), "l": Link("d")})
    os.mkfifo(root / "pipe")
    return root


@pytest.fixture
def archive(tree: Path, tmp_path: Path) -> Path:
    (tmp_path / "a.zip").write_bytes(made(tree))
    return tmp_path / "a.zip"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: str | Path, **settings: Any) -> subprocess.CompletedProcess[str]:
        if settings:
            (tmp_path / "config.json").write_text(
                json.dumps({"storage": str(tmp_path / "storage"), **settings})
            )
            arguments = (*arguments, "--config", tmp_path / "config.json")
        return edge_backup(tmp_path, "inspect", *map(str, arguments))

    return run


def values(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_it_says_who_made_it_when_of_what_and_what_is_missing(run: Run, archive: Path) -> None:
    shown = run(archive)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.splitlines() == [
        "device          edge:device",
        "created         2026-11-21T22:28:08.388229Z",
        "agent           edge-backup/1",
        "correlation id  c-1",
        "name            before-update",
        "description     works\\nwell",
        "retention date  2027-01-01T00:00:00.000000Z",
        "content         1 file, 1 directory, 1 link, 7 B",
        "skipped         1 FIFO",
        "source          /var/lib/app",
        "skipped name    pipe (FIFO)",
    ]


def test_the_files_come_one_a_line_from_the_archives_own_directory(run: Run, archive: Path) -> None:
    """Names of an archive must not drive a terminal."""
    manifest, *files = values(run(archive, "--files", "--json"))
    assert manifest["manifest"]["device"] == "edge:device"
    found = {entry["name"]: entry for entry in files}
    assert found.keys() == {"d", "d/f\\n", "l"}
    assert [found[name]["kind"] for name in ("d", "d/f\\n", "l")] == ["directory", "file", "link"]
    file = found["d/f\\n"]
    assert (file["sizeBytes"], file["mode"], file["crc32"]) == (7, "0640", f"{zlib.crc32(b'content'):08x}")
    assert file["modified"].endswith("Z")
    lines = run(archive, "--files").stdout.splitlines()
    assert any(line.startswith("-rw-r-----            7 2") and line.endswith(" d/f\\n") for line in lines)


def test_an_archive_without_a_manifest_is_shown_too(run: Run, tree: Path, archive: Path) -> None:
    archive.write_bytes(archive_of(tree)[0])
    assert run(archive).stdout == "no manifest: the archive does not name its device\n"
    assert values(run(archive, "--json")) == [{"manifest": None}]


def test_a_encrypted_one_is_opened_by_what_is_in_a_file(run: Run, archive: Path) -> None:
    archive.write_bytes(b"".join(encrypted([archive.read_bytes()], [Passcode(PASSCODE.encode(), 10, 15)])))
    for text, secret in (("right", PASSCODE), ("wrong", "battery staple")):
        (archive.parent / text).write_text(f"{secret}\n")
    opened = run(archive, "--secret", "restore.passcode=@right", "--json")
    assert values(opened)[0]["manifest"]["name"] == "before-update"
    assert "is encrypted" in run(archive).stderr
    wrong = run(archive, "--secret", "restore.passcode=@wrong")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "wrong passcode" in wrong.stderr


@pytest.mark.parametrize("encrypt", [False, True], ids=["plain", "sealed"])
def test_of_an_archive_at_a_place_only_the_end_is_fetched(
    run: Run, tree: Path, tmp_path: Path, encrypt: bool
) -> None:
    """So a mobile link is enough to look at a large one, a encrypted one too."""
    make_tree(tree, {"large": File(os.urandom(8 << 20))})
    data = made(tree)
    if encrypt:
        data = b"".join(encrypted([data], [Passcode(PASSCODE.encode(), 10, 15)]))
        (tmp_path / "right").write_text(PASSCODE)
    secret = ["--secret", "restore.passcode=@right"] if encrypt else []

    def answer(request: Received) -> Say:
        first, last = map(int, request.headers["range"].removeprefix("bytes=").split("-"))
        part = data[first : last + 1]
        said = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        return Say(206, {"Content-Range": said, "ETag": '"1"'}, part)

    with HttpServer(answer) as server:
        shown = run("-o", f"https.url=http://127.0.0.1:{server.port}/a.zip", "--files", "--json", *secret)
        manifest, *files = values(shown)
        fetched = len(server.requests)
    assert manifest["manifest"]["counts"]["files"] == 2
    assert len(files) == 4
    assert fetched <= 3  # of 33 blocks


def test_a_server_that_gives_no_parts_is_said_to_be_one(run: Run, archive: Path) -> None:
    with HttpServer(lambda _request: Say(200, {}, archive.read_bytes())) as server:
        refused = run("-o", f"https.url=http://127.0.0.1:{server.port}/a.zip")
    assert refused.returncode == 1
    assert "does not give a part of the object" in refused.stderr


def test_in_a_store_the_newest_of_this_device_is_looked_at(run: Run, tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "usb"
    target.mkdir()
    for year, name in ((2025, "zoo"), (2026, "ape")):
        when = START.replace(year=year)
        file = target / archive_name(when, device_tag("edge:device"), name=name)
        file.write_bytes(made(tree, replace(ORIGIN, label=replace(LABEL, name=name))))
    settings = {
        "targets": {"usb": {"path": str(target)}},
        "stores": {"stick": {"provider": "local", "options": {"local.target": "usb"}}},
    }
    newest = run("--store", "stick", "--json", deviceId="edge:device", tenantId="t", **settings)
    assert values(newest)[0]["manifest"]["name"] == "ape"
    unknown = run("--store", "stick", **settings)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr.startswith("which archive? name it with --archive")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["no-such.zip"], 1, "'no-such.zip' cannot be read: No such file or directory"),
        (["text"], 1, "this is no ZIP archive, or one that was cut off"),
        (["broken.zip"], 1, "the archive's manifest is damaged"),
        (
            ["later.zip"],
            1,
            f"the archive has format {FORMAT + 1}, and this agent knows formats up to {FORMAT}",
        ),
        (["text", "-o", "storage.provider=local"], 2, "give a file or a destination, not both"),
        (["--store", "x"], 1, "option 'restore.store' must be one of: device"),
        ([], 1, "option 'storage.provider' is missing, and no store is named: choose one of device"),
        (["-o", "storage.provider=local", "-o", "local.name=x"], 1, "does not exist"),
        (["text", "--secret", "restore.passcode=@nix"], 2, "'nix' cannot be read"),
    ],
)
def test_what_cannot_be_shown_is_said(
    run: Run, tree: Path, tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    (tmp_path / "text").write_text("x")
    (tmp_path / "broken.zip").write_bytes(with_block(tree, block_of(b"{}")))
    (tmp_path / "later.zip").write_bytes(with_block(tree, block_of(b'{"format":%d}' % (FORMAT + 1))))
    (tmp_path / "storage/archives").mkdir(parents=True)
    done = run(*arguments, logFile="")
    assert (done.returncode, done.stdout) == (status, "")
    assert says in done.stderr


def test_whoever_has_seen_enough_is_not_told_of_it(tmp_path: Path) -> None:
    """As with `| head`."""
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(3000):
            archive.writestr(f"{number}-{'x' * 100}", b"")
    command = [str(PROGRAM), "inspect", "many.zip", "--files"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
