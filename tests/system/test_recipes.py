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


def recipes() -> Iterator[tuple[str, str]]:
    """Yield each recipe's heading and its blocks that can be executed here; tmpfs stands for your stick."""
    config = CONFIG
    for heading, its_blocks in groupby(blocks("recipes.md"), key=lambda block: block.heading):
        lines = []
        for block in its_blocks:
            if block.language == "json":
                config = merged(config, json.loads(block.text))
                lines.append(f"cat > /etc/edge-backup/config.json <<'END'\n{json.dumps(config)}\nEND")
            elif block.mark == "needs a stick":
                lines.append(A_STICK)
            elif not block.mark:
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
    assert "verify finished: 1 files" in told["Move a store"]
    assert told["Replace keys and passwords"].count("1 unmodified") == 1
    assert "carry it out: edge-backup finalize" in told["A lost journal"]
    stick = told["A USB stick, without any network"]
    assert "nothing is mounted, plug it in" in stick
    assert stick.endswith("refused, as it should be\n### done\n")
