"""Encrypted archives, in the age v1 format (age-encryption.org/v1), so that the standard tool opens them.

`keys` turns a passcode or a public key into the secret of one file, `header` reads and writes the text
at a file's beginning, `payload` encrypts and opens what follows. Needs the extra `encryption`: only the
job's thread imports that, which takes too long for the thread that answers.
"""

from collections.abc import Generator, Iterator
from typing import BinaryIO, cast

from agent.formats.age.header import refuse_encrypted
from agent.formats.base import Encryption, Unlock


def encrypt(plain: Iterator[bytes], encryption: Encryption) -> Generator[bytes, None, None]:
    """Return the pieces of the encrypted archive; keys are derived before this returns."""
    from agent.formats.age.keys import Passcode, PublicKey, Recipient
    from agent.formats.age.payload import encrypted

    recipients: list[Recipient] = [PublicKey.parse(text) for text in encryption.recipients]
    if encryption.passcode is not None:
        recipients = [Passcode(encryption.passcode.encode(), encryption.work_factor, encryption.work_factor)]
    return encrypted(plain, recipients)


def decrypt(file: BinaryIO, unlock: Unlock) -> BinaryIO:
    """Return the plain archive in a file.

    Raises `Encrypted` when nothing was given to open it, `NotEncrypted`, `WrongKey`, `EncryptionBroken` and
    `WorkFactorTooHigh`.
    """
    if not unlock.passcodes and unlock.private_key is None:
        return refuse_encrypted(file)
    from agent.formats.age.keys import AgeIdentity, Passcode, PrivateKey
    from agent.formats.age.payload import OpenedFile

    most = unlock.max_work_factor
    keys: list[AgeIdentity] = [Passcode(passcode.encode(), most, most) for passcode in unlock.passcodes]
    if unlock.private_key is not None:
        keys.append(PrivateKey(unlock.private_key))
    # It is a file in all that the archive's reader asks of it.
    return cast(BinaryIO, OpenedFile(file, keys))
