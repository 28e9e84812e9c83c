"""Sealing as a command and the settings ask for it: for whom an archive is sealed, what opens one.

Decided before the command is accepted. The library is imported by the job's thread, as it takes too long
for the thread that answers.
"""

from collections.abc import Generator, Iterator
from importlib import metadata
from typing import BinaryIO, cast

from agent.backup.pipeline import Seal
from agent.backup.restoring import Unseal
from agent.backup.seal.bech32 import decode_key
from agent.backup.seal.header import refuse_sealed
from agent.engine.parameters import BACKUP_PASSCODE, RESTORE_IDENTITY, RESTORE_PASSCODE, Parameters
from agent.messaging.ditto import EXECUTION_FAILED, PARAMETER_INVALID, CommandError
from agent.settings import SealSettings

_NEEDED_VERSION = 47
"""Of `cryptography`: as the extra says, but another one may have brought an older one."""


def seal_for(parameters: Parameters, settings: SealSettings) -> Seal | None:
    """What seals the archive of this backup; None when nobody asks for it. Raises `CommandError` 400."""
    passcode = _passcode(parameters, BACKUP_PASSCODE, settings)
    if passcode is None and not settings.recipients:
        return None
    if passcode is not None and settings.recipients:
        raise _invalid(
            f"option '{BACKUP_PASSCODE}' is of no use here: this device seals for 'seal.recipients' alone"
        )
    _refuse_without_extra()

    def seal(plain: Iterator[bytes]) -> Generator[bytes, None, None]:
        from agent.backup.seal.keys import Passcode, PublicKey, Recipient
        from agent.backup.seal.payload import sealed

        recipients: list[Recipient] = [PublicKey.parse(text) for text in settings.recipients]
        if passcode is not None:
            recipients = [Passcode(passcode.encode(), settings.work_factor, settings.max_work_factor)]
        return sealed(plain, recipients)

    return seal


def unseal_for(parameters: Parameters, settings: SealSettings) -> Unseal:
    """What opens the archive of this restore; without a key only a plain one is taken.

    Raises `CommandError` 400.
    """
    passcode, private_key = _passcode(parameters, RESTORE_PASSCODE, settings), _private_key(parameters)
    if passcode is None and not private_key:
        return refuse_sealed
    if passcode is not None and private_key:
        raise _invalid(f"give option '{RESTORE_PASSCODE}' or '{RESTORE_IDENTITY}', not both")
    _refuse_without_extra()

    def unseal(file: BinaryIO) -> BinaryIO:
        from agent.backup.seal.keys import Identity, Passcode, PrivateKey
        from agent.backup.seal.payload import OpenedFile

        key: Identity
        if passcode is not None:
            key = Passcode(passcode.encode(), settings.work_factor, settings.max_work_factor)
        else:
            assert private_key
            key = PrivateKey(private_key)
        # It is a file in all that the archive's reader asks of it.
        return cast(BinaryIO, OpenedFile(file, [key]))

    return unseal


def _passcode(parameters: Parameters, option: str, settings: SealSettings) -> str | None:
    passcode = parameters.options.get(option)
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
        message = "sealing is not installed on this device: install edge-backup-agent[seal]"
        raise CommandError(400, EXECUTION_FAILED, message)


def _invalid(message: str) -> CommandError:
    return CommandError(400, PARAMETER_INVALID, message)
