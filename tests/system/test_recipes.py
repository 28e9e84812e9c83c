"""docs/recipes.md, block by block, on a booted system; JSON that stands there goes into the configuration."""

import json
import os
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.support.doc_blocks import blocks
from tests.support.machine import machine
from tests.support.require import require

CONFIG: dict[str, Any] = {
    "deviceId": "edge:device-17",
    "dir": "/var/lib/app",
    "storage": "/var/lib/edge-backup/storage",
    "logFile": "",
    "targets": {"device": {"path": "/var/lib/edge-backup/archives"}},
}
BEFORE = """
/opt/edge-backup/bin/edge-backup setup
systemd-sysusers
ln -s /opt/edge-backup/bin/edge-backup /usr/local/bin/
install -D -m 0644 /dev/stdin /var/lib/app/app.json <<< '{}'
mkdir -p /media/disk /media/usb /etc/systemd/system/edge-backup.service.d
chown edge-backup: /var/lib/app
printf '[Service]\\nReadWritePaths=/var/lib/app\\n' > /etc/systemd/system/edge-backup.service.d/write.conf
systemctl enable --now edge-backup
edge-backup backup -o storage.provider=local
"""
A_STICK = "mount -t tmpfs none /media/usb"


def merged(config: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """`config` with the members of `more`, deeply."""
    both = dict(config)
    for key, value in more.items():
        both[key] = merged(both.get(key, {}), value) if isinstance(value, dict) else value
    return both


def configured(config: dict[str, Any]) -> str:
    return f"cat > /etc/edge-backup/config.json <<'END'\n{json.dumps(config)}\nEND"


def recipes(*marks: str) -> Iterator[tuple[str, str]]:
    """Yield each recipe's heading and its blocks with these marks; tmpfs stands for your stick.

    Without marks, yield the blocks that need nothing.
    """
    config = CONFIG
    for heading, its_blocks in groupby(blocks("recipes.md"), key=lambda block: block.heading):
        lines = []
        for block in its_blocks:
            if block.mark == "needs a stick" and not marks:
                lines.append(A_STICK)
            elif block.mark not in (marks or ("",)):
                continue
            elif block.language == "json":
                config = merged(config, json.loads(block.text))
                lines.append(configured(config))
            else:
                lines.append(block.text)
        yield heading, "\n".join(lines)


@pytest.mark.timeout(600)  # beside whatever else runs
def test_the_recipes_work_one_after_the_other(tmp_path: Path) -> None:
    """Each changes the device that the one before has left, as an owner would."""
    programs = ("systemd-nspawn", "nsenter", "restic", "openssl")
    require(os.geteuid() == 0 and all(map(shutil.which, programs)), "root, systemd-nspawn, restic, openssl")
    with machine(tmp_path) as made:
        made.install_environment()
        made.write("/etc/edge-backup/config.json", json.dumps(CONFIG))
        with made.booted("basic.target"):
            made.follow(BEFORE)
            told = {heading: made.follow(script) for heading, script in recipes()}
    assert "backup    finished" in told["Upgrade, and back"]
    assert "verify finished: 1 file" in told["Move a store"]
    assert told["Replace keys and passwords"].count("1 unmodified") == 1
    assert "carry it out: edge-backup finalize" in told["A lost journal"]
    stick = told["A USB stick, without any network"]
    assert "nothing is mounted, plug it in" in stick
    assert stick.endswith("refused, as it should be\n### done\n")


POSTGRESQL = """
systemctl start postgresql@15-main || { pg_createcluster 15 main; systemctl start postgresql@15-main; }
runuser -u postgres -- createdb app
runuser -u postgres -- psql app -c 'CREATE TABLE t AS SELECT generate_series(1, 1000) AS n'
"""
MARIADB = """
systemctl start mariadb
mariadb -e 'CREATE DATABASE app; CREATE TABLE app.t (n INT); INSERT INTO app.t VALUES (1), (2), (3)'
"""
DAMAGE = {
    "PostgreSQL": "runuser -u postgres -- psql app -c 'DROP TABLE t'",
    "MariaDB": "mariadb -e 'DELETE FROM app.t'",
}
COUNTED = {
    "PostgreSQL": "runuser -u postgres -- psql app -tAc 'SELECT count(*) FROM t'",
    "MariaDB": "mariadb --skip-column-names -e 'SELECT count(*) FROM app.t'",
}
STOPPED = {"PostgreSQL": "systemctl stop postgresql@15-main", "MariaDB": "systemctl stop mariadb"}


@pytest.mark.large  # Debian's servers take a minute to install, which CI does not have
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("server", "began", "rows"), [("PostgreSQL", POSTGRESQL, "1000"), ("MariaDB", MARIADB, "3")]
)
def test_the_recipe_for_a_database_server_brings_a_damaged_database_back(
    tmp_path: Path, server: str, began: str, rows: str
) -> None:
    """The agent is the service with its own user; a server that is away fails the backup."""
    servers = all(map(shutil.which, ("pg_createcluster", "mariadb-dump")))
    require(os.geteuid() == 0 and servers, "root, Debian's packages postgresql and mariadb-server")
    (script,) = [text for _, text in recipes(f"needs {server}") if text]
    saved, restored = script.split("edge-backup restore")
    with machine(tmp_path) as made:
        made.install_environment()
        made.write("/etc/edge-backup/config.json", json.dumps(CONFIG))
        with made.booted("basic.target"):
            made.follow(BEFORE + began)
            assert "backup finished: 1 file" in made.follow(saved)
            told = made.follow(f"{DAMAGE[server]}\nedge-backup restore{restored}\n{COUNTED[server]}")
            assert "restore finished: 1 file" in told
            assert told.splitlines()[-2] == rows
            name = server.lower()
            refused = made.follow(
                f"{STOPPED[server]}\nedge-backup backup --store device --data-type {name} || echo refused"
            )
    assert f"dataSets.{name}.beforeBackupCmd 'dump-{name}' ended with exit status" in refused
    assert refused.endswith("refused\n### done\n")


APP = """
[Service]
ExecStart=sleep infinity
ExecStop=/bin/sh -c 'echo stopped >> /run/app-log'
ExecStartPre=/bin/sh -c 'echo started >> /run/app-log'
"""


@pytest.mark.large
@pytest.mark.timeout(600)
def test_the_recipe_for_a_service_stops_it_around_a_backup(tmp_path: Path) -> None:
    """Without the rule the backup fails, and says that the user may not."""
    require(os.geteuid() == 0 and shutil.which("pkaction") is not None, "root, Debian's package polkitd")
    (script,) = [text for _, text in recipes("needs polkit") if text]
    rule = script.partition("cat > /etc/edge-backup/config.json")[0]
    assert "50-edge-backup.rules" in rule
    with machine(tmp_path) as made:
        made.install_environment()
        made.write("/etc/edge-backup/config.json", json.dumps(CONFIG))
        made.write("/etc/systemd/system/app.service", APP)
        with made.booted("basic.target"):
            made.follow(f"{BEFORE}\nsystemctl start app")
            refused = made.follow(f"{script.removeprefix(rule).rstrip()} || echo refused")
            assert refused.endswith("refused\n### done\n")
            assert "beforeBackupCmd 'systemctl' ended with exit status" in refused
            assert "backup finished: 1 file" in made.follow(script)
            assert made.follow("cat /run/app-log; systemctl is-active app").splitlines() == [
                *("started", "stopped", "started", "active", "### done")
            ]
