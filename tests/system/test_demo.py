"""`edge-backup demo` as a newcomer sees it."""

import subprocess
import sys
from pathlib import Path


def test_the_demo_brings_everything_back_and_shows_encryption_preview_and_history(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("edge-backup")
    ended = subprocess.run(
        [program, "demo"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
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
        "demo-encrypted-back",
        "demo-encrypted",
        "demo-local-back",
        "demo-local",
    ]
    assert "not-shown" not in told
    assert "kept-by-the-backend" not in told
    assert "every file came back unchanged" in told
    assert told.count("→ command//demo:device/req//backup") == 2
    assert list(tmp_path.iterdir()) == []
