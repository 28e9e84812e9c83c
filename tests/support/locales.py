"""Locales of a device whose encoding is not UTF-8."""

import shutil
import subprocess
from pathlib import Path

from tests.support.require import require


def latin_1(work: Path) -> dict[str, str]:
    """The variables of a process with LANG=de_DE as ISO-8859-1; the locale is compiled into `work`."""
    require(shutil.which("localedef") is not None, "localedef (Debian package libc-bin)")
    require(Path("/usr/share/i18n/locales/de_DE").exists(), "sources of locales (Debian package locales)")
    name = "de_DE.ISO-8859-1"
    compile_it = ["localedef", "-f", "ISO-8859-1", "-i", "de_DE", str(work / name)]
    subprocess.run(compile_it, check=True, capture_output=True)
    return {"LOCPATH": str(work), "LC_ALL": name}


ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
"""Without them, Python takes the locale C for UTF-8."""
EIGHT_BIT = ("latin-1", "ascii")


def without_utf8(kind: str, work: Path) -> dict[str, str]:
    """The variables of one of `EIGHT_BIT`."""
    return latin_1(work) if kind == "latin-1" else ASCII
