"""The file of the device that somebody there wants an archive in."""

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agent.base.refusals import Reason, Refused
from agent.base.roots import Root
from agent.base.text import readable
from providers.api import Limits, Target, check_name
from providers.directory import refuse_special
from providers.errors import BadOptions, StorageError

if TYPE_CHECKING:
    from providers.local import Local


def output_file(text: str, outside: Iterable[Root], limits: Limits) -> "tuple[Local, str]":
    """Return the storage and the name of the file at the absolute path `text`.

    It must be `outside` of what is saved and of our own.

    Raises `Refused`, also when the agent may not write there. May wait for a file system.
    """
    from providers.local import Local

    file = _resolved(text)
    for root in outside:
        directory = root.directory.resolve()
        if file.is_relative_to(directory) and root.holds(str(file.relative_to(directory))):
            message = f"must not be inside '{directory}': choose another directory"
            raise _refused(text, Reason.INVALID, message)
    target = str(file.parent)
    try:
        options = {"local.target": target, "local.name": file.name}
        storage = Local(options, replace(limits, targets={target: Target(file.parent, resolved=True)}))
        storage.preflight(True)
        refuse_special(file)
    except StorageError as error:
        raise _refused(text, Reason.CANNOT, f"cannot be written: {error}") from error
    except OSError as error:
        raise _refused(text, Reason.CANNOT, f"cannot be written: {error.strerror}") from error
    return storage, file.name


def _resolved(text: str) -> Path:
    path = Path(text)
    try:
        if path.is_absolute():
            return Path(os.path.realpath(path.parent)) / check_name(path.name)
    except (BadOptions, ValueError, OSError) as error:  # such as a NUL
        raise _refused(text, Reason.INVALID, "must be the absolute path of a file") from error
    raise _refused(text, Reason.INVALID, "must be the absolute path of a file")


def _refused(text: str, reason: Reason, why: str) -> Refused:
    return Refused(reason, f"output '{readable(text)}' {why}")
