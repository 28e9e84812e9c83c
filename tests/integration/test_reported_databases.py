"""Databases and commands around a backup, as people reported them of other programs; the tracker is named."""

import random
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.support.agent_process import PROGRAM, AgentProcess
from tests.support.backend import Backend

LOCAL = {"storage.provider": "local", "local.name": "it.zip"}
_HOLDER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("PRAGMA journal_mode = WAL")
db.execute("CREATE TABLE IF NOT EXISTS log (text TEXT)")
db.execute("INSERT INTO log VALUES ('held')")
print("holds", flush=True)
sys.stdin.readline()
db.close()
"""


@contextmanager
def held(path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A program that has the database open until a line comes."""
    command = [sys.executable, "-c", _HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout
        assert program.stdout.readline() == "holds\n"
        yield program


def rows(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return [text for (text,) in database.execute("SELECT text FROM log")]


def test_a_restore_over_a_database_that_a_program_has_open(agent: AgentProcess, backend: Backend) -> None:
    """vavallee/bindery#2337, Basekick-Labs/arc#635: the old log was replayed over the restored database.

    Here the program keeps the old database, and nothing of it reaches the new one.
    """
    database = agent.data / "app.db"
    with held(database) as program:
        assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FINISHED"
        assert backend.run("restore", "Y", LOCAL)["state"] == "RESTORE_FINISHED"
        assert sorted(path.name for path in agent.data.glob("app.db*")) == ["app.db"]
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("INSERT INTO log VALUES ('new')")
            program.communicate("\n")
            other.execute("INSERT INTO log VALUES ('newer')")
    assert rows(database) == ["held", "new", "newer"]


def test_an_empty_dump_does_not_push_out_the_last_good_one(device: AgentProcess, backend: Backend) -> None:
    """Skyfay/DBackup#154, nfrastack/db-backup#366: `pg_dump | gzip` ends well when `pg_dump` fails.

    The backup was a success of 20 bytes, and retention removed the last dump that was whole.
    """
    dump, server = device.work / "dump", device.work / "server"
    dump.write_text(f"#!/bin/sh\ncat {server} | gzip > {device.data}/app.sql.gz\n")
    dump.chmod(0o755)
    server.write_bytes(random.Random(1).randbytes(1 << 20))
    device.settings |= {"beforeBackupCmd": str(dump), "retention.keepLast": 1, "exclude": "logs"}
    device.start()
    backend.announced()
    archives = device.storage / "archives"
    to_target = {"storage.provider": "local"}
    assert backend.run("backup", "good", to_target)["message"] == ""
    (good,) = archives.iterdir()
    server.unlink()
    for number in range(3):
        ended = backend.run("backup", f"empty-{number}", to_target)
        assert ended["state"] == "BACKUP_FINISHED"
        assert ended["message"].startswith("only ")
        assert "is every dump whole?" in ended["message"]
    command = [str(PROGRAM), "prune", "--config", str(device.work / "config.json")]
    subprocess.run(command, check=True, timeout=60)
    left = sorted(archives.iterdir())
    assert left[0] == good
    assert len(left) == 2
