"""Encryption as a command and the settings ask for it: for whom an archive is encrypted, what opens one.

Decided before the command is accepted.
"""

import unicodedata
from importlib import metadata

from agent.base.bech32 import decode_key
from agent.base.refusals import Reason, Refused
from agent.formats.base import Encryption, Unlock
from agent.jobs.requests import BACKUP_PASSCODE, RESTORE_IDENTITY, RESTORE_PASSCODE, Parameters
from agent.settings import EncryptionSettings

_NEEDED_VERSION = 47
"""Of `cryptography`: as the extra says, but another one may have brought an older one."""


def encryption_for(parameters: Parameters, settings: EncryptionSettings) -> Encryption | None:
    """Return how the archive of this backup is encrypted; None when nobody asks for it. Raises `Refused`."""
    passcode = _passcode(parameters, BACKUP_PASSCODE, settings)
    if passcode is None and not settings.recipients:
        return None
    if passcode is not None and settings.recipients:
        raise _invalid(
            f"option '{BACKUP_PASSCODE}' is of no use: this device encrypts for 'encryption.recipients' alone"
        )
    _refuse_without_extra()
    return Encryption(tuple(settings.recipients), passcode, settings.work_factor)


def unlock_for(parameters: Parameters, settings: EncryptionSettings) -> Unlock:
    """Return what opens the archive of this restore. Raises `Refused`."""
    passcode, private_key = _passcode(parameters, RESTORE_PASSCODE, settings), _private_key(parameters)
    if passcode is not None and private_key:
        raise _invalid(f"give option '{RESTORE_PASSCODE}' or '{RESTORE_IDENTITY}', not both")
    if passcode is None:
        passcodes: tuple[str, ...] = ()
    else:
        # As given, too: what encrypted the archive may not have normalised it.
        passcodes = tuple(dict.fromkeys((passcode, parameters.options[RESTORE_PASSCODE])))
    if passcodes or private_key:
        _refuse_without_extra()
    return Unlock(passcodes, private_key, settings.max_work_factor)


def _passcode(parameters: Parameters, option: str, settings: EncryptionSettings) -> str | None:
    """Return the passcode in Unicode's form NFC: one keyboard types "ü" as a letter, another as two."""
    given = parameters.options.get(option)
    passcode = None if given is None else unicodedata.normalize("NFC", given)
    if passcode is not None and len(passcode) < settings.min_passcode:
        raise _invalid(f"option '{option}' must have at least {settings.min_passcode} characters")
    return passcode


def _private_key(parameters: Parameters) -> bytes | None:
    text = parameters.options.get(RESTORE_IDENTITY)
    if text is None:
        return None
    try:
        return decode_key(text, "AGE-SECRET-KEY-")
    except ValueError as error:
        raise _invalid(f"option '{RESTORE_IDENTITY}': {error}") from error


def _refuse_without_extra() -> None:
    try:
        version = int(metadata.version("cryptography").partition(".")[0])
    except metadata.PackageNotFoundError:
        version = 0
    if version < _NEEDED_VERSION:
        message = "encryption is not installed on this device: install edge-backup-agent[encryption]"
        raise Refused(Reason.CANNOT, message)


def _invalid(message: str) -> Refused:
    return Refused(Reason.INVALID, message)
