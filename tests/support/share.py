"""Manual pages and shell completions, from the parsers of the command line; `make share` writes them.

The wheel and the Debian package carry them. They are not in the repository: their source is the code.
"""

import argparse
import shutil
from pathlib import Path

import shtab

from agent.cli import SUBCOMMANDS
from tests.support.manuals import PROGRAM, manuals
from tests.support.parsers import main_parser, parser_of

SHARE = Path(__file__).parents[2] / "agent" / "share"
_BASH = {
    "bash": """\
# shtab's own divide the typed word at its blanks.
_edge_backup_files() { compgen -f -- "$1"; }
_edge_backup_dirs() { compgen -d -- "$1"; }
"""
}
_FILE = {**shtab.FILE, "bash": "_edge_backup_files", "preamble": _BASH}
_DIR = {**shtab.DIRECTORY, "bash": "_edge_backup_dirs", "preamble": _BASH}
_COMPLETED_AS = {"FILE": _FILE, "PATH": _FILE, "DIR": _DIR}
"""Values that the shell completes, by the word that `--help` has for them."""
_FILES = {"bash": PROGRAM, "zsh": f"_{PROGRAM}"}
"""The names by which the shells find their completions."""


def completions() -> dict[str, str]:
    """Return the completion for each shell, by file name."""
    parser = _whole()
    return {file: shtab.complete(parser, shell) for shell, file in _FILES.items()}


def _whole() -> argparse.ArgumentParser:
    """Return one parser with all commands; the program makes only one of them, to import little."""
    whole = argparse.ArgumentParser(prog=PROGRAM, description=main_parser().description)
    whole.add_argument("--version", action="version", help="show the version and exit")
    commands = whole.add_subparsers()
    for name, command in SUBCOMMANDS.items():
        parser = parser_of(name)
        _mark_files(parser)
        commands.add_parser(name, help=command.help, parents=[parser], add_help=False)
    return whole


def _mark_files(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:  # noqa: SLF001 - shtab reads the same list
        if isinstance(action.metavar, str) and (completed := _COMPLETED_AS.get(action.metavar)):
            action.complete = completed  # type: ignore[attr-defined]
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for inner in action.choices.values():
                _mark_files(inner)


def files() -> dict[str, str]:
    """Return all that is made, by its path in the directory `agent/share`."""
    pages = {f"man/man{name[-1]}/{name}": text for name, text in manuals().items()}
    return pages | {f"completions/{name}": text for name, text in completions().items()}


def write(directory: Path) -> None:
    """Write all manual pages and completions below `directory`, and remove others there."""
    for made in ("man", "completions"):
        shutil.rmtree(directory / made, ignore_errors=True)
    for name, text in files().items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, "utf-8")


if __name__ == "__main__":
    write(SHARE)
