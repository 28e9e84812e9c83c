"""Sealing as a command and the settings ask for it: for whom an archive is sealed, what opens one.

Decided before the command is accepted. What seals is imported by the first command that needs it.
"""

from functools import partial
from typing import BinaryIO, cast

from agent.backup.pipeline import Seal
from agent.backup.restoring import Unseal
from agent.backup.seal.header import refuse_sealed
from agent.messaging.ditto import EXECUTION_FAILED, PARAMETER_INVALID, CommandError
from agent.parameters import BACKUP_PASSCODE, RESTORE_IDENTITY, RESTORE_PASSCODE, Parameters
from agent.settings import SealSettings


def seal_for(parameters: Parameters, settings: SealSettings) -> Seal | None:
    """What seals the archive of this backup; None when nobody asks for it. Raises `CommandError` 400."""
    passcode = _passcode(parameters, BACKUP_PASSCODE, settings)
    if not passcode and not settings.recipients:
        return None
    if passcode and settings.recipients:
        raise _invalid(
            f"option '{BACKUP_PASSCODE}' is of no use here: this device seals for 'seal.recipients' alone"
        )
    try:
        from agent.backup.seal.keys import Passcode, PublicKey, Recipient
        from agent.backup.seal.payload import sealed
    except ImportError as error:
        raise _missing_extra() from error
    recipients: list[Recipient] = [PublicKey.parse(text) for text in settings.recipients]
    if passcode:
        recipients = [Passcode(passcode.encode(), settings.work_factor, settings.max_work_factor)]
    return partial(sealed, recipients=recipients)


def unseal_for(parameters: Parameters, settings: SealSettings) -> Unseal:
    """What opens the archive of this restore; without a key only a plain one is taken.

    Raises `CommandError` 400.
    """
    passcode = _passcode(parameters, RESTORE_PASSCODE, settings)
    identity = parameters.options.get(RESTORE_IDENTITY)
    if not passcode and not identity:
        return refuse_sealed
    if passcode and identity:
        raise _invalid(f"give option '{RESTORE_PASSCODE}' or '{RESTORE_IDENTITY}', not both")
    try:
        from agent.backup.seal.keys import Identity, Passcode, PrivateKey
        from agent.backup.seal.payload import OpenedFile
    except ImportError as error:
        raise _missing_extra() from error
    key: Identity
    if passcode:
        key = Passcode(passcode.encode(), settings.work_factor, settings.max_work_factor)
    else:
        try:
            key = PrivateKey.parse(str(identity))
        except ValueError as error:
            raise _invalid(f"option '{RESTORE_IDENTITY}': {error}") from error

    def unseal(file: BinaryIO) -> BinaryIO:
        # It is a file in all that the archive's reader asks of it.
        return cast(BinaryIO, OpenedFile(file, [key]))

    return unseal


def _passcode(parameters: Parameters, option: str, settings: SealSettings) -> str | None:
    passcode = parameters.options.get(option)
    if passcode is not None and len(passcode) < settings.min_passcode:
        raise _invalid(f"option '{option}' must have at least {settings.min_passcode} characters")
    return passcode


def _invalid(message: str) -> CommandError:
    return CommandError(400, PARAMETER_INVALID, message)


def _missing_extra() -> CommandError:
    message = "sealing is not installed on this device: install edge-backup-agent[seal]"
    return CommandError(400, EXECUTION_FAILED, message)
