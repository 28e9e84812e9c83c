"""`edge-backup setup`: writes the files that the Debian package has beside the program."""

import argparse
import errno
import stat
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from agent.base.durable import replace_file
from agent.cli import EXIT_OK, leave_closed_pipe
from agent.cli.local import EXIT_REFUSED
from agent.cli.settings import DEFAULT_CONFIG

SHARE = Path(__file__).parents[1] / "share"
_PLACES = {
    "config.json": DEFAULT_CONFIG.parent,
    "systemd": Path("/etc/systemd/system"),
    "systemd/edge-backup.service.d": Path("/usr/local/share/edge-backup/edge-backup.service.d"),
    "sysusers/edge-backup.conf": Path("/etc/sysusers.d"),
    "man/man1": Path("/usr/local/share/man/man1"),
    "man/man5": Path("/usr/local/share/man/man5"),
    "completions/edge-backup": Path("/usr/local/share/bash-completion/completions"),
    "completions/_edge-backup": Path("/usr/local/share/zsh/site-functions"),
}
"""Where a file, or each file directly in a directory, goes on the device."""
_PROGRAM_OF_THE_PACKAGE = "/opt/edge-backup/bin/edge-backup"
_UNIT_OF_THE_PACKAGE = Path("usr/lib/systemd/system/edge-backup.service")
"""A unit in /etc would be preferred to it, also after an upgrade."""
_ELSEWHERE = "install into a directory such as /opt/edge-backup, and run its 'edge-backup setup'"
_NEXT = "next: systemd-sysusers; systemctl daemon-reload; systemctl enable --now edge-backup\n"


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it is written to `path`; an existing one stays if it `is_the_owners`."""

    path: Path
    text: str
    is_the_owners: bool


def setup(argv: list[str]) -> int:
    """Write the files, or show them; the exit status."""
    parsed = _parser().parse_args(argv)
    if parsed.shown:
        _say([f"==> {file.path} <==\n{file.text}\n" for file in _files()])
        return EXIT_OK
    if (parsed.root / _UNIT_OF_THE_PACKAGE).exists():
        sys.stderr.write("nothing is written: the Debian package brings all files, also in upgrades\n")
        return EXIT_REFUSED
    status, said = EXIT_OK, list[str]()
    try:
        said.extend(f"{_written(file, parsed.root)}: {file.path}\n" for file in _files())
        said.append(_NEXT if parsed.root == Path("/") else "")
        for closed in islice(_closed(), 1):
            sys.stderr.write(f"warning: the agent's user may not enter '{closed}': {_ELSEWHERE}\n")
    except OSError as error:
        hint = "; run it as root, or give another --root" if isinstance(error, PermissionError) else ""
        sys.stderr.write(f"{error.filename or parsed.root}: {error.strerror}{hint}\n")
        status = EXIT_REFUSED
    _say(said)
    return status


def _say(lines: list[str]) -> None:
    """Print the lines once all files are written: somebody may have closed the pipe."""
    try:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    except BrokenPipeError:
        leave_closed_pipe()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-backup setup",
        description="Write the unit and socket for systemd, the default configuration, manual pages and"
        " completions. An existing configuration stays as it is. Other files are replaced by those of this"
        " version: put your own changes to a unit into a drop-in.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--print", action="store_true", dest="shown", help="show the files, and write nothing"
    )
    parser.add_argument(
        "--root", metavar="DIR", type=Path, default=Path("/"), help="write below this directory (default: /)"
    )
    return parser


def _files() -> Iterator[_File]:
    """Yield the files of this installation; in a checkout `make share` makes some of them."""
    program = _word(str(_program()))
    for source, directory in _PLACES.items():
        found = SHARE / source
        for path in sorted(found.iterdir()) if found.is_dir() else [found]:
            if path.is_file():
                text = path.read_text("utf-8").replace(_PROGRAM_OF_THE_PACKAGE, program)
                yield _File(directory / path.name, text, is_the_owners=source == "config.json")


def _program() -> Path:
    return Path(sysconfig.get_path("scripts")) / "edge-backup"


def _closed() -> Iterator[Path]:
    """Yield directories above the program and its interpreter that other users may not enter."""
    for needed in (_program(), Path(sys.executable)):
        yield from (each for each in needed.resolve().parents if not each.stat().st_mode & stat.S_IXOTH)


def _word(path: str) -> str:
    """Return the path as one word of a unit (systemd.syntax(7)); systemd refuses quotes in the name."""
    escaped = path.replace("%", "%%")
    return f'"{escaped}"' if " " in path else escaped


def _written(file: _File, root: Path) -> str:
    """Write the file below `root`, unless it is there; return what became of it. Raises OSError."""
    path = root / file.path.relative_to("/")
    if not path.parent.resolve().is_relative_to(root.resolve()):
        raise OSError(errno.ELOOP, f"a link leads out of '{root}'", str(path.parent))
    try:
        is_same = path.read_text("utf-8") == file.text
    except FileNotFoundError:
        verb = "written"
    else:
        if is_same or file.is_the_owners:
            return "unchanged" if is_same else "kept, it has been changed"
        verb = "replaced"
    _make_readable(path.parent)
    replace_file(path, file.text, 0o640 if file.is_the_owners else 0o644)
    return verb


def _make_readable(directory: Path) -> None:
    """Make the directory and its missing parents, readable for everybody under any umask. Raises OSError."""
    for each in [*reversed(directory.parents), directory]:
        try:
            each.mkdir()
        except FileExistsError:
            continue
        each.chmod(0o755)
