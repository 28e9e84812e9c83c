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
    assert told.count("✓ all 10 are as they were") == 2
    assert "how it was encrypted" in told
    assert "nothing is touched yet: 3 to add, 3 to change, 0 to remove" in told
    remembered = told.partition("the newest first")[2]
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
    assert "everything came back as it was" in told
    assert list(tmp_path.iterdir()) == []
