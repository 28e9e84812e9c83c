"""`edge-backup demo` as a newcomer sees it."""

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("edge-backup")


def test_the_demo_brings_everything_back_and_shows_encryption_preview_and_history(tmp_path: Path) -> None:
    ended = subprocess.run(
        [PROGRAM, "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    told = ended.stdout
    assert (ended.returncode, ended.stderr) == (0, "")
    assert told.count("✓ all 10 came back unchanged") == 2
    assert "bytes, encrypted\n" in told
    assert "nothing changed yet; finalize would add 3, change 3, remove 0" in told
    remembered = told.partition("newest first")[2]
    assert [
        line.split()[3] for line in remembered.splitlines() if "FINISHED" in line and "←" not in line
    ] == [
        "demo-snapshot-again",
        "demo-snapshot",
        "demo-encrypted-back",
        "demo-encrypted",
        "demo-local-back",
        "demo-local",
    ]
    assert "not-shown" not in told
    assert "kept-by-the-backend" not in told
    assert "every file came back unchanged" in told
    assert told.count("→ command//demo:device/req//backup") == 4
    (share,) = re.findall(r"bytes after [0-9,]+: ([0-9.]+)%", told)
    assert float(share) < 2
    assert list(tmp_path.iterdir()) == []


def test_the_demo_leaves_the_agent_and_its_page_running_when_asked(tmp_path: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "demo", "--keep-running"], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as demo:  # fmt: skip
        assert demo.stdout
        told = ""
        for line in demo.stdout:
            told += line
            if "On the command line" in line:
                break
        page, token = re.findall(r"page: (http\S+/)|sign in: (\S+)", told)
        with urllib.request.urlopen(page[0], timeout=20) as answer:
            assert b"<html" in answer.read()
        status = urllib.request.Request(
            f"{page[0]}api/v1/status", headers={"Authorization": f"Bearer {token[1]}"}
        )
        with urllib.request.urlopen(status, timeout=20) as answer:
            assert answer.status == 200
        demo.send_signal(signal.SIGINT)
        assert "every file came back unchanged" in demo.stdout.read()
    assert demo.returncode == 0
