"""docs/quick-start.md, block by block, on booted systems: one that is saved, a new one that is restored."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.doc_blocks import blocks
from tests.support.machine import CHECKOUT, Machine, machine
from tests.support.require import require
from tests.support.terminal import picture
from tests.support.waiting import wait_until

ENVIRONMENT = Path(sys.prefix)
PICTURE = CHECKOUT / "docs" / "images" / "terminal.svg"
NOT_HERE = {"needs the package index", "values"}
OURS = """
DEVICE=edge:device-17 DIRECTORY=/var/lib/app
BUCKET=backups REGION=us-east-1 ENDPOINT=http://127.0.0.1:9000
KEY_ID=rclone-user SECRET_KEY=rclone-secret-0123456789
test ! -e key.txt || RECIPIENT=$(age-keygen -y key.txt)
"""
S3 = f"""
[Service]
ExecStart={ENVIRONMENT}/bin/rclone serve s3 /srv/s3 --addr 127.0.0.1:9000 --config /dev/null \\
  --auth-key rclone-user,rclone-secret-0123456789 --vfs-cache-mode off --dir-cache-time 10ms
"""
APP = """
import os, sqlite3
os.makedirs("/var/lib/app")
open("/var/lib/app/app.json", "w").write("{}")
database = sqlite3.connect("/var/lib/app/measured.db")
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE measured (value)")
database.executemany("INSERT INTO measured VALUES (?)", [(each,) for each in range(1000)])
database.commit()
os._exit(0)  # as if the program still ran: the rows are in the log beside the database
"""
COUNT = (
    "import sqlite3; database = sqlite3.connect('/var/lib/app/measured.db');"
    "print(database.execute('SELECT count(*) FROM measured').fetchone()[0])"
)


@contextmanager
def fresh(scratch: Path, package: Path | None) -> Iterator[Machine]:
    """A booted system with S3 on loopback, and nothing of the agent but its program, or its package."""
    scratch.mkdir()
    with machine(scratch) as made:
        (made.checkout / "build/deb").mkdir(parents=True)
        if package:
            made.write("/usr/sbin/policy-rc.d", "#!/bin/sh\n", 0o755)  # a container's own starts no service
            shutil.copy(package, made.checkout / "build/deb")
        else:
            made.install_environment()
        (made.root / "srv/s3/backups").mkdir(parents=True)
        made.write("/etc/systemd/system/s3.service", S3)
        with made.booted("basic.target"):
            made.run("systemctl", "start", "s3")
            wait_until(lambda: made.run("bash", "-c", "</dev/tcp/127.0.0.1/9000") == "", what="S3")
            yield made


def follow(made: Machine, package: Path | None, *steps: str) -> str:
    """Return the output of the blocks of these steps, one after the other in one shell."""
    passed_over = {*NOT_HERE, "without the package" if package else "with the package"}
    script = [OURS]
    for block in blocks("quick-start.md"):
        if block.heading[:1] in steps and block.mark not in passed_over:
            script += [f"echo '### {block.heading}'", block.text]
    return made.follow("\n".join(script))


@pytest.mark.timeout(600)  # two systems are booted, beside whatever else runs
def test_the_quick_start_saves_a_device_and_restores_it_onto_a_new_one(tmp_path: Path) -> None:
    """Databases are consistent, archives encrypted, the alarm is heard, and the next night is planned."""
    walk_through(tmp_path, package=None)


def walk_through(work: Path, package: Path | None) -> None:
    programs = ("systemd-nspawn", "nsenter", "age-keygen")
    require(os.geteuid() == 0 and all(map(shutil.which, programs)), "root, systemd-nspawn and age")
    bucket, key = work / "bucket", work / "key.txt"
    with fresh(work / "old", package) as old:
        subprocess.run(["chroot", old.root, "python3", "-c", APP], check=True)
        printed = follow(old, package, "1", "2", "3", "4", "5", "6", "7")
        assert "backup finished: 2 files" in printed, "the database's log is in the copy of the database"
        assert "schedule nightly: next" in printed
        assert "verify finished: 2 files" in printed
        assert "restore failed: s3://backups/missing.zip.age" in printed.partition("backup-alarm")[2]
        if os.environ.get("PICTURES") == "1":
            PICTURE.write_text(picture(list(session(old))[:-1]), "utf-8")
        shutil.copytree(old.root / "srv/s3/backups", bucket)
        shutil.copy(old.checkout / "key.txt", key)
    assert all(archive.name.endswith(".zip.age") for archive in bucket.iterdir())
    with fresh(work / "new", package) as new:
        shutil.copytree(bucket, new.root / "srv/s3/backups", dirs_exist_ok=True)
        shutil.copy(key, new.checkout)
        assert "restore finished: 2 files" in follow(new, package, "1", "2", "4", "5", "8")
        assert new.run("python3", "-c", COUNT) == "1000\n"
        assert sorted(os.listdir(new.root / "var/lib/app")) == ["app.json", "measured.db"]


def session(made: Machine) -> Iterator[str]:
    """A short session at a terminal, for the picture in the README."""
    for command in ("backup --store cloud --id before-update", "history", "status"):
        yield f"$ edge-backup {command}"
        yield from made.run("bash", "-c", f"COLUMNS=100 edge-backup {command}").splitlines()
        yield ""
