"""The store that a command names becomes options, as if the command had given them itself.

Secrets come from a file that is read each time, as they may be renewed. Belongs to the main thread.
"""

import json
import os
import stat
from pathlib import Path

import providers
from agent.base.redaction import is_secret_name
from agent.base.refusals import Reason, Refused
from agent.jobs.requests import Parameters
from agent.settings import Settings
from agent.settings.stores import NOT_OF_A_PLACE, option_texts
from providers.errors import BadOptions

_LARGEST_FILE_BYTES = 64 << 10


def with_store(parameters: Parameters, settings: Settings, option: str) -> Parameters:
    """The parameters with provider and options of the store that `option` names; unchanged without it.

    The command's own options may add credentials, and name the object. Raises `Refused` for an
    unknown store, for another destination beside it, for an option that the store has otherwise, and when
    the credentials cannot be read.
    """
    name = parameters.options.get(option)
    if name is None:
        return parameters
    if name not in settings.stores:
        known = ", ".join(sorted(settings.stores)) or "none is configured"
        raise _invalid(f"option '{option}' must be one of: {known}")
    if "storage.provider" in parameters.options:
        raise _invalid(f"give option '{option}' or 'storage.provider', not both")
    options = store_options(settings, name)
    provider = settings.stores[name].provider
    for key, text in sorted(parameters.options.items()):
        if options.get(key, text) != text or not (key in options or _may_be_added(key, provider)):
            raise _invalid(f"option '{key}' contradicts store '{name}': leave it out")
    options["storage.provider"] = provider
    return parameters.model_copy(update={"options": parameters.options | options})


def store_options(settings: Settings, name: str) -> dict[str, str]:
    """All options of the store `name`, with its secrets. Raises `Refused`."""
    store = settings.stores[name]
    if store.credentials is None:
        return dict(store.options)
    try:
        secrets = _read(store.credentials)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"store '{name}': its file of credentials cannot be used: {reason}"
        raise Refused(Reason.CANNOT, message) from error
    if twice := sorted(secrets.keys() & store.options.keys()):
        message = f"store '{name}': '{twice[0]}' is in its options and in its credentials; keep one"
        raise Refused(Reason.CANNOT, message)
    return store.options | secrets


def _may_be_added(key: str, provider: str) -> bool:
    """Whether a command may have this option beside a store: it names an object, or is a credential.

    Whatever says where to go is the store's alone: else a command could have its credentials sent anywhere.
    """
    if key.startswith((*NOT_OF_A_PLACE, "https.header.")) or is_secret_name(key):
        return True
    try:
        return key == providers.factory(provider).name_option
    except (BadOptions, providers.MissingExtra) as error:
        raise Refused(Reason.CANNOT, str(error)) from error


def store_fact(parameters: Parameters, option: str) -> dict[str, str]:
    """For the history: which store was named, if any."""
    return {"store": parameters.options[option]} if option in parameters.options else {}


def _read(path: Path) -> dict[str, str]:
    """The options in a file that others cannot read. Raises OSError and ValueError."""
    # A FIFO of this name would be waited for.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_mode & stat.S_IRWXO:
            raise ValueError("others can read it; take that right away (chmod 600)")
        content = file.read(_LARGEST_FILE_BYTES)
    try:
        return option_texts(json.loads(content))
    except (ValueError, RecursionError):
        raise ValueError("it is not a JSON object of options") from None


def _invalid(message: str) -> Refused:
    return Refused(Reason.INVALID, message)
