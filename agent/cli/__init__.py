"""The command `edge-backup`: finds the subcommand and hands it the rest of the arguments.

Nothing heavy is imported here, so that `--help` and `--version` answer at once.
"""

import argparse
import errno
import importlib
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from agent import __version__
from agent.base.text import names_are_utf8

if TYPE_CHECKING:
    from agent.settings.load import Loaded

EXIT_OK, EXIT_REFUSED, EXIT_BAD_SETTINGS = 0, 1, 2
EXIT_INTERRUPTED = 130
"""The exit status that shells give a program that Ctrl-C ended."""
OUTPUT_LOST = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Errors that come from writing alone: commands write to standard output, or name the file themselves."""
EXIT_STATUSES = (
    "0 done, 1 refused or failed, 2 wrong arguments or settings, 3 no agent answers, 130 ended by Ctrl-C"
)


@dataclass(frozen=True, slots=True)
class Subcommand:
    """A subcommand: `entry` is `module:function`, called with its own arguments, returning an exit status."""

    entry: str
    help: str
    reads_archives: bool = False
    """True for a command that opens archives itself, and needs what memory there is for that."""

    def __call__(self, argv: Sequence[str]) -> int:
        if self.reads_archives:
            spare_memory()
        module, function = self.entry.split(":")
        entry = getattr(importlib.import_module(module), function)
        return cast(Callable[[list[str]], int], entry)(list(argv))


SUBCOMMANDS = {
    "run": Subcommand("agent.cli:run", "run the agent until it is told to stop"),
    "check-config": Subcommand(
        "agent.cli.check_config:check_config", "check the settings and print those in effect"
    ),
    "init": Subcommand("agent.cli.init:init", "ask a few questions, and write a small configuration"),
    "setup": Subcommand(
        "agent.cli.setup:setup",
        "write what the package has beside the program: unit, configuration, manual pages",
    ),
    "send": Subcommand("agent.send:main", "send a command to a device and follow it to its end"),
    "backup": Subcommand("agent.cli.jobs:backup", "let the agent on this device make a backup now"),
    "restore": Subcommand(
        "agent.cli.jobs:restore", "let the agent restore an archive, or preview the restore"
    ),
    "finalize": Subcommand("agent.cli.jobs:finalize", "carry out the restore that was previewed"),
    "discard": Subcommand("agent.cli.jobs:discard", "remove the waiting preview"),
    "confirm": Subcommand("agent.cli.jobs:confirm", "keep the data of a commit-confirmed restore"),
    "cancel": Subcommand("agent.cli.jobs:cancel", "stop the job that runs, or an upload by its id"),
    "status": Subcommand("agent.cli.status:status", "show what the agent on this device is doing"),
    "info": Subcommand(
        "agent.cli.status:info", "show what a backup would save and skip now, and where it could go"
    ),
    "archives": Subcommand("agent.cli.archives:archives", "list the archives that can be restored"),
    "history": Subcommand("agent.cli.history:history", "list the jobs that ended, newest first"),
    "show": Subcommand("agent.cli.history:show", "show all that is known of one job"),
    "verify": Subcommand("agent.cli.jobs:verify", "check that an archive is whole; changes nothing"),
    "inspect": Subcommand(
        "agent.cli.inspect:inspect", "show the manifest and entries of an archive", reads_archives=True
    ),
    "extract": Subcommand(
        "agent.cli.inspect:extract", "write one file of an archive to standard output", reads_archives=True
    ),
    "prune": Subcommand("agent.cli.archives:prune", "remove old archives now, as the agent does once a day"),
    "openapi": Subcommand("agent.cli.openapi:openapi", "print the description of the HTTP API"),
    "demo": Subcommand(
        "agent.demo:main", "back up, damage and restore a sample directory; needs nothing else"
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `edge-backup argv…`: the exit status; 2 for arguments or settings that cannot be used."""
    _open_standard_streams()
    if argv is None and not names_are_utf8():
        _start_again_in_utf8()
    parser = argparse.ArgumentParser(
        prog="edge-backup",
        usage="%(prog)s [-h] [--version] [--config FILE] command ...",
        description="Backup and restore agent for edge devices",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="commands:\n"
        + "\n".join(f"  {name:14}{command.help}" for name, command in SUBCOMMANDS.items())
        + f"\n\nexit status: {EXIT_STATUSES}",
    )
    parser.add_argument("--version", "-version", action="version", version=f"%(prog)s {__version__}")
    parser.add_argument("--config", "-config", metavar="FILE", help="configuration file of the command")
    parser.add_argument("command", choices=SUBCOMMANDS, metavar="command", nargs="?")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="see 'edge-backup <command> --help'")
    parsed = parser.parse_args(argv)
    if parsed.command is None:
        parser.error("a command is missing; 'edge-backup --help' lists them")
    before = ["--config", parsed.config] if parsed.config else []
    try:
        status = SUBCOMMANDS[parsed.command]([*before, *parsed.arguments])
        sys.stdout.flush()
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError as error:
        if isinstance(error, FileNotFoundError) and _is_working_directory_gone():
            sys.stderr.write("the working directory was removed: change to one that is there\n")
            return EXIT_BAD_SETTINGS
        if error.errno not in OUTPUT_LOST:
            raise
        leave_closed_pipe()
        if not isinstance(error, BrokenPipeError):
            sys.stderr.write(f"standard output cannot be written: {error.strerror}\n")
            return EXIT_REFUSED
        status = EXIT_OK
    return status


def _is_working_directory_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def leave_closed_pipe() -> None:
    """Send the rest of standard output nowhere: its reader has seen enough.

    Otherwise the interpreter would complain when it flushes at its end.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_standard_streams() -> None:
    """Open standard descriptors that are closed: no file may get their numbers, and errors need a stream."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - until the process ends
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _start_again_in_utf8() -> None:
    """Replace this process by the same program in Python's UTF-8 mode, which no locale changes.

    By an argument of the interpreter: a variable would be inherited by the owner's commands.
    """
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606 - itself


def run(argv: list[str]) -> int:
    from agent.cli.settings import parse_settings

    loaded = settings_of(parse_settings("edge-backup run", {}, argv))
    if loaded is None:
        return EXIT_BAD_SETTINGS
    spare_memory()
    from agent import service

    return service.run(loaded.settings, loaded.notices)


def spare_memory() -> None:
    """Import structlog, and prepare for paho, without 10 MiB that both import and no command uses.

    Providers that need these libraries find them.
    """
    import logging

    # From Python 3.12 on every record would ask asyncio for its task.
    vars(logging)["logAsyncioTasks"] = False
    hidden = {"rich", "greenlet"} - sys.modules.keys()
    sys.modules.update(dict.fromkeys(hidden, cast(ModuleType, None)))
    for unused in {"asyncio", "urllib.request"} - sys.modules.keys():
        _import_on_use(unused)
    importlib.import_module("structlog")
    for name in hidden:
        del sys.modules[name]


def _import_on_use(name: str) -> None:
    """Import a module, but run its code only when somebody asks for one of its members (PEP 562)."""
    spec: Any = find_spec(name)
    module, lock = module_from_spec(spec), threading.RLock()
    # Without a package's path even the import of a submodule asks here first.
    not_run = [vars(module).pop("__path__", None)]

    def member(asked: str) -> object:
        with lock:
            if not_run:
                if path := not_run.pop():
                    vars(module)["__path__"] = path
                spec.loader.exec_module(module)
        if asked in vars(module):
            return vars(module)[asked]
        raise AttributeError(f"module '{name}' has no attribute '{asked}'")

    vars(module)["__getattr__"] = member
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        vars(sys.modules[parent])[last] = module


def settings_of(parsed: argparse.Namespace) -> "Loaded | None":
    """Load the settings among parsed arguments; None, with the reasons on stderr, when they are wrong."""
    from agent.cli.settings import settings_given
    from agent.settings.load import SettingsError, load

    config_file, overrides = settings_given(parsed)
    try:
        return load(overrides, config_file, os.environ)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return None
