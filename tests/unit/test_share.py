"""Manual pages and completions say what `--help` says, and the wheel carries them with the unit."""

import argparse
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent.cli import SUBCOMMANDS
from agent.jobs.requests.options import Key
from agent.settings.keys import KEYS
from tests.support import share
from tests.support.manuals import manuals, page
from tests.support.parsers import parser_of
from tests.support.share import completions

ROOT = Path(__file__).parents[2]
_MACROS = (".TH ", ".SH ", ".TP", ".PP", ".nf", ".fi")


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_option_of_a_command_is_in_its_manual_page(name: str) -> None:
    """The page is made from the parser that reads the arguments, so nobody has to keep two lists."""
    text = manuals()[f"edge-backup-{name}.1"].replace("\\", "")
    shown = [each for each in parser_of(name)._actions if each.help != argparse.SUPPRESS]  # noqa: SLF001
    options = [option for each in shown for option in each.option_strings]
    assert options
    assert [option for option in options if option not in text] == []


def test_the_page_of_send_has_the_options_of_its_operations() -> None:
    text = manuals()["edge-backup-send.1"].replace("\\", "")
    assert all(option in text for option in ("--broker", "--answer-secret", "--status-code", "--timeout"))


def test_the_page_of_the_settings_has_every_key() -> None:
    text = manuals()["edge-backup-settings.5"].replace("\\", "")
    assert [key.name for key in KEYS if f"\n  {key.name}  (" not in text] == []


def test_the_page_of_the_options_has_every_key_of_the_wire_without_markup() -> None:
    """Somebody with the package alone has no docs/wire.md."""
    text = manuals()["edge-backup-options.5"].replace("\\", "")
    assert [key.value for key in Key if f"\nfB{key.value}fR (" not in text] == []
    assert "fBaws.s3.bucketfR (aws)\nrequired\n" in text
    assert "only these data sets of the device" in text
    assert "`" not in text


def test_a_text_is_never_a_command_of_troff() -> None:
    """A line that begins with a point or a quote would vanish from the page, or run a macro."""
    parser = parser_of("status")
    parser.description = ".so /etc/passwd\n\n'br \\fB"
    for text in (*manuals().values(), page(parser, "show")):
        lines = text.splitlines()
        assert [line for line in lines if line.startswith((".", "'")) and not line.startswith(_MACROS)] == []
    assert "\\&.so /etc/passwd\n.PP\n\\&'br \\efB\n" in page(parser, "show")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["check"], ["check-config"]),
        (["restore", "--pre"], ["--preview"]),
        (["restore", "--mode", ""], ["merge", "replace", "exact"]),
        (["send", "fin"], ["finalize"]),
    ],
)
def test_bash_completes_commands_options_and_values(
    typed: list[str], offered: list[str], tmp_path: Path
) -> None:
    script = tmp_path / "edge-backup"
    script.write_text(completions()["edge-backup"])
    words = " ".join(f"'{word}'" for word in typed)
    asked = f"""
source {script}
COMP_WORDS=(edge-backup {words}) COMP_CWORD={len(typed)}
$(complete -p edge-backup | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    said = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert said.stdout.split() == offered, said.stderr


def test_bash_completes_names_below_a_directory_with_a_blank(tmp_path: Path) -> None:
    (tmp_path / "a disk").mkdir()
    (tmp_path / "a disk" / "my config.json").touch()
    (tmp_path / "edge-backup").write_text(completions()["edge-backup"])
    asked = """
source ./edge-backup
COMP_WORDS=(edge-backup run --config 'a disk/') COMP_CWORD=3
$(complete -p edge-backup | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""
    said = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert said.stdout == "a disk/my config.json\n", said.stderr


def test_zsh_finds_its_completion_by_the_first_line() -> None:
    assert completions()["_edge-backup"].splitlines()[0] == "#compdef edge-backup"


def test_the_wheel_carries_the_files_for_a_device_and_is_the_same_when_built_again(tmp_path: Path) -> None:
    """Somebody who has the sources can check that a wheel was made from them."""
    source = tmp_path / "source"
    # `make share` may write manual pages and completions in the checkout meanwhile.
    left = shutil.ignore_patterns("__pycache__", "man", "completions")
    for package in ("agent", "providers"):
        shutil.copytree(ROOT / package, source / package, ignore=left)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    share.write(source / "agent" / "share")
    built = []
    for name in ("first", "second"):
        build = ["-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / name)]
        subprocess.run([sys.executable, *build], check=True, cwd=source, capture_output=True)
        (wheel,) = (tmp_path / name).glob("*.whl")
        built.append(wheel.read_bytes())
    assert built[0] == built[1]
    names = zipfile.ZipFile(wheel).namelist()
    for shipped in (
        "systemd/edge-backup.service",
        "systemd/edge-backup.socket",
        "config.json",
        *share.files(),
    ):
        assert f"agent/share/{shipped}" in names
