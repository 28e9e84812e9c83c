"""Encryption as a command and the settings ask for it: for whom an archive is encrypted, what opens one.

Decided before the command is accepted. The library is imported by the job's thread, as it takes too long
for the thread that answers.
"""

import unicodedata
from collections.abc import Generator, Iterator
from importlib import metadata
from typing import TYPE_CHECKING, BinaryIO, cast

from agent.base.bech32 import decode_key
from agent.base.refusals import Reason, Refused
from agent.formats.age.header import refuse_encrypted
from agent.jobs.requests import BACKUP_PASSCODE, RESTORE_IDENTITY, RESTORE_PASSCODE, Parameters
from agent.restore.flow import Decryption
from agent.save.pipeline import Encryption
from agent.settings import EncryptionSettings

if TYPE_CHECKING:
    from agent.formats.age.keys import Passcode

_NEEDED_VERSION = 47
"""Of `cryptography`: as the extra says, but another one may have brought an older one."""


def encryption_for(parameters: Parameters, settings: EncryptionSettings) -> Encryption | None:
    """What encrypts the archive of this backup; None when nobody asks for it. Raises `Refused`."""
    passcode = _passcode(parameters, BACKUP_PASSCODE, settings)
    if passcode is None and not settings.recipients:
        return None
    if passcode is not None and settings.recipients:
        raise _invalid(
            f"option '{BACKUP_PASSCODE}' is of no use: this device encrypts for 'encryption.recipients' alone"
        )
    _refuse_without_extra()

    def encrypt(plain: Iterator[bytes]) -> Generator[bytes, None, None]:
        from agent.formats.age.keys import PublicKey, Recipient
        from agent.formats.age.payload import encrypted

        recipients: list[Recipient] = [PublicKey.parse(text) for text in settings.recipients]
        if passcode is not None:
            recipients = [_key(passcode, settings)]
        return encrypted(plain, recipients)

    return encrypt


def decryption_for(parameters: Parameters, settings: EncryptionSettings) -> Decryption:
    """What opens the archive of this restore; without a key only a plain one is taken.

    Raises `Refused`.
    """
    passcode, private_key = _passcode(parameters, RESTORE_PASSCODE, settings), _private_key(parameters)
    if passcode is None and not private_key:
        return refuse_encrypted
    if passcode is not None and private_key:
        raise _invalid(f"give option '{RESTORE_PASSCODE}' or '{RESTORE_IDENTITY}', not both")
    _refuse_without_extra()

    def decrypt(file: BinaryIO) -> BinaryIO:
        from agent.formats.age.keys import Identity, PrivateKey
        from agent.formats.age.payload import OpenedFile

        keys: list[Identity]
        if passcode is not None:
            # As given, too: what encrypted the archive may not have normalised it.
            given = parameters.options[RESTORE_PASSCODE]
            keys = [_key(text, settings) for text in dict.fromkeys((passcode, given))]
        else:
            assert private_key
            keys = [PrivateKey(private_key)]
        # It is a file in all that the archive's reader asks of it.
        return cast(BinaryIO, OpenedFile(file, keys))

    return decrypt


def _key(passcode: str, settings: EncryptionSettings) -> "Passcode":
    from agent.formats.age.keys import Passcode

    return Passcode(passcode.encode(), settings.work_factor, settings.max_work_factor)


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
