"""The file that somebody at the device wants an archive in: it is replaced in one step, as in any target."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from agent.backup.archive.names import readable
from agent.backup.context import Place
from agent.backup.roots import Root
from agent.messaging.ditto import EXECUTION_FAILED, PARAMETER_INVALID, CommandError
from providers.api import Limits, Target, check_name
from providers.errors import BadOptions, StorageError
from providers.local import Local


def output_place(text: str, outside: Iterable[Root], limits: Limits) -> Place:
    """The file of the absolute path `text`, which must be `outside` of what is saved and of our own.

    Raises `CommandError` 400, also when the agent may not write there. May wait for a file system.
    """
    file = _resolved(text)
    for root in outside:
        directory = root.directory.resolve()
        if file.is_relative_to(directory) and root.holds(str(file.relative_to(directory))):
            message = f"must not be inside '{directory}': choose another directory"
            raise _refused(text, PARAMETER_INVALID, message)
    target = str(file.parent)
    try:
        options = {"local.target": target, "local.name": file.name}
        storage = Local(options, replace(limits, targets={target: Target(file.parent)}))
        storage.preflight(True)
    except (BadOptions, StorageError) as error:
        raise _refused(text, EXECUTION_FAILED, f"cannot be written: {error}") from error
    return Place(storage, Local.needs_size, file.name)


def _resolved(text: str) -> Path:
    path = Path(text)
    try:
        if path.is_absolute():
            return Path(os.path.realpath(path.parent)) / check_name(path.name)
    except (BadOptions, ValueError, OSError) as error:  # such as a NUL
        raise _refused(text, PARAMETER_INVALID, "must be the absolute path of a file") from error
    raise _refused(text, PARAMETER_INVALID, "must be the absolute path of a file")


def _refused(text: str, code: str, why: str) -> CommandError:
    return CommandError(400, code, f"output '{readable(text)}' {why}")
