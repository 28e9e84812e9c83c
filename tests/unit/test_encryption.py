"""Commands and settings decide about encryption before anything is done."""

import io
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, Literal
from unicodedata import normalize

import pytest

from agent.base.errors import Encrypted
from agent.base.refusals import Reason, Refused
from agent.base.text import Number
from agent.formats.age import decrypt, encrypt
from agent.jobs.admission import metadata as metadata_of
from agent.jobs.formats import encryption_for, unlock_for
from agent.jobs.requests.backup import BackupRequest
from agent.jobs.requests.raw import RawRequest, read_raw
from agent.jobs.requests.restore import VerifyRequest, read_key
from agent.settings import Settings
from agent.settings.group_defaults import EncryptionSettings
from agent.settings.load import SettingsError, load

# From the public test vectors.
IDENTITY = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0"
RECIPIENT = "age1xmwwc06ly3ee5rytxm9mflaz2u56jjj36s0mypdrwsvlul66mv4q47ryef"  # of IDENTITY
DEFAULT = EncryptionSettings()
FOR_THE_FLEET = EncryptionSettings.model_validate({"recipients": RECIPIENT})
LONG = EncryptionSettings.model_validate({"min_passcode": 20})
Form = Literal["NFC", "NFD"]
TOO_SHORT = "must have at least 8 characters"
EMPTY = "must be a text that is not empty"


def given(operation: str, options: dict[str, Any]) -> RawRequest:
    """Option `backup_passcode` is `backup.passcode`."""
    value = {"options": {key.replace("_", "."): text for key, text in options.items()}}
    return read_raw(operation, value)


def decide(operation: str, settings: EncryptionSettings, **options: Any) -> Any:
    asked = given(operation, options)
    if operation == "backup":
        return encryption_for(
            BackupRequest.read(asked, Settings(encryption=settings)).passcode, None, settings
        )
    return unlock_for(read_key(asked.options, settings.min_passcode), settings)


@pytest.mark.parametrize(
    ("operation", "settings", "options", "message"),
    [
        ("backup", DEFAULT, {"backup_passcode": "seven77"}, TOO_SHORT),
        ("backup", DEFAULT, {"backup_passcode": Number("1234567")}, TOO_SHORT),
        ("backup", DEFAULT, {"backup_passcode": ""}, EMPTY),
        ("backup", DEFAULT, {"backup_passcode": None}, EMPTY),
        ("backup", DEFAULT, {"backup_passcode": ["correct horse"]}, EMPTY),
        ("backup", DEFAULT, {"backup_passcode": {}}, EMPTY),
        ("backup", DEFAULT, {"Backup_Passcode": "correct horse"}, "unknown option 'Backup.Passcode'"),
        ("backup", DEFAULT, {"backup_password": "correct horse"}, "unknown option 'backup.password'"),
        (
            "backup",
            EncryptionSettings.model_validate({"min_passcode": 20}),
            {"backup_passcode": "x" * 19},
            "at least 20 characters",
        ),
        (
            "backup",
            FOR_THE_FLEET,
            {"backup_passcode": "correct horse"},
            r"for 'encryption\.recipients' alone",
        ),
        ("restore", DEFAULT, {"restore_passcode": "seven77"}, TOO_SHORT),
        ("restore", DEFAULT, {"restore_passcode": ""}, EMPTY),
        ("restore", DEFAULT, {"restore_identity": ""}, EMPTY),
        ("restore", DEFAULT, {"restore_identity": RECIPIENT}, r"'restore\.identity': expected a key that"),
        ("restore", DEFAULT, {"restore_identity": IDENTITY.lower()}, r"'restore\.identity': expected a key"),
        (
            "restore",
            DEFAULT,
            {"restore_identity": f"{IDENTITY}\n{IDENTITY}"},
            r"'restore\.identity': .*one key",
        ),
        ("restore", DEFAULT, {"restore_identity": IDENTITY[:-1] + "Q"}, r"'restore\.identity': .* checksum"),
        (
            "restore",
            DEFAULT,
            {"restore_identity": IDENTITY, "restore_passcode": "correct horse"},
            r"'restore\.passcode' or 'restore\.identity', not both",
        ),
    ],
)
def test_what_cannot_work_is_refused_by_name_and_without_the_value(
    operation: str, settings: EncryptionSettings, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(Refused, match=message) as caught:
        decide(operation, settings, **options)
    assert caught.value.reason is Reason.INVALID
    for value in options.values():
        assert not value or str(value) not in caught.value.message


def test_eight_characters_are_eight_whatever_their_bytes() -> None:
    assert decide("backup", DEFAULT, backup_passcode="ünïcödé!") is not None
    assert decide("backup", DEFAULT, backup_passcode=Number("12345678")) is not None


def test_nobody_seals_unasked_and_what_is_meant_for_another_operation_does_nothing() -> None:
    """Backends send one set of options to all operations."""
    both = {"backup_passcode": "correct horse", "restore_passcode": "correct horse"}
    assert decide("backup", DEFAULT) is None
    assert decide("backup", DEFAULT, restore_passcode="correct horse") is None
    assert decide("backup", DEFAULT, **both) is not None
    with pytest.raises(Encrypted):
        decrypt(
            io.BytesIO(b"age-encryption.org/v1\n"),
            decide("restore", DEFAULT, backup_passcode="correct horse"),
        )


def test_one_passcode_seals_and_opens() -> None:
    encryption = decide("backup", DEFAULT, backup_passcode="correct horse")
    file = io.BytesIO(b"".join(encrypt(iter([b"content"]), encryption)))
    assert decrypt(file, decide("restore", DEFAULT, restore_passcode="correct horse")).read() == b"content"


@pytest.mark.parametrize(("typed", "typed_again"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_a_passcode_opens_whatever_keyboard_typed_it(typed: Form, typed_again: Form) -> None:
    """macOS types an umlaut as two characters, Linux as one."""
    encryption = decide("backup", DEFAULT, backup_passcode=normalize(typed, "grüne Söckchen"))
    file = io.BytesIO(b"".join(encrypt(iter([b"content"]), encryption)))
    unlock = decide("restore", DEFAULT, restore_passcode=normalize(typed_again, "grüne Söckchen"))
    assert decrypt(file, unlock).read() == b"content"


def test_what_was_encrypted_with_a_passcode_as_it_was_typed_still_opens() -> None:
    """The standard tool normalises nothing, nor did agents before."""
    from agent.formats.age.keys import Passcode
    from agent.formats.age.payload import encrypted

    passcode = normalize("NFD", "grüne Söckchen")
    sealed = encrypted(iter([b"content"]), [Passcode(passcode.encode(), 10, 10)])
    unlock = decide("restore", DEFAULT, restore_passcode=passcode)
    assert decrypt(io.BytesIO(b"".join(sealed)), unlock).read() == b"content"


def test_a_device_with_recipients_seals_everything_for_them() -> None:
    file = io.BytesIO(b"".join(encrypt(iter([b"content"]), decide("backup", FOR_THE_FLEET))))
    assert decrypt(file, decide("restore", FOR_THE_FLEET, restore_identity=IDENTITY)).read() == b"content"


def test_a_file_of_age_keygen_is_an_identity_with_its_comments() -> None:
    text = f"# created: 2026-11-21T22:28:08Z\n# public key: {RECIPIENT}\n{IDENTITY}\n"
    assert decide("restore", DEFAULT, restore_identity=text) == decide(
        "restore", DEFAULT, restore_identity=IDENTITY
    )


@pytest.mark.parametrize("key", ["backup_passcode", "restore_passcode", "restore_identity"])
def test_no_key_is_shown_with_what_holds_it(key: str) -> None:
    value = IDENTITY if "identity" in key else "correct horse"
    asked = given(key.partition("_")[0], {key: value, "storage_provider": "local"})
    request = BackupRequest if key.startswith("backup") else VerifyRequest
    assert value not in f"{asked!r} {request.read(asked, Settings())!r}"
    assert value not in repr(decide(key.partition("_")[0], DEFAULT, **{key: value}))


@pytest.mark.parametrize("version", [None, "46.0.7"])
def test_without_the_extra_a_400_names_it(version: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or with the library in a version that is too old; what is neither encrypted nor opened works."""

    def installed(name: str) -> str:
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", installed)
    assert decide("backup", DEFAULT) is None
    assert decide("restore", DEFAULT)
    for operation in ("backup", "restore"):
        with pytest.raises(Refused, match=r"install edge-backup-agent\[encryption\]") as caught:
            decide(operation, DEFAULT, **{f"{operation}_passcode": "correct horse"})
        assert caught.value.reason is Reason.CANNOT


def test_no_answer_waits_for_the_library() -> None:
    """Its import takes longer than an answer may; only jobs that need it pay for it, in their thread."""
    code = (
        "import sys; from tests.unit.test_encryption import *;"
        "decide('backup', DEFAULT, backup_passcode='correct horse'); decide('backup', FOR_THE_FLEET);"
        "decide('restore', DEFAULT, restore_identity=IDENTITY); import agent.service;"
        "print('cryptography' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    loaded = subprocess.check_output([sys.executable, "-c", code], cwd=root, text=True, timeout=60)
    assert loaded == "False\n"


# Settings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("encryption.recipients", "age1"),
        ("encryption.recipients", f"{RECIPIENT},ssh-ed25519 AAAA"),
        ("encryption.recipients", IDENTITY),
        ("encryption.minPasscode", "0"),
        ("encryption.workFactor", "9"),
        ("encryption.workFactor", "16"),
        ("encryption.maxWorkFactor", "14"),
        ("encryption.maxWorkFactor", "23"),
    ],
)
def test_settings_that_cannot_work_end_the_start_by_name(key: str, value: str) -> None:
    """A private key that got there by mistake is not repeated."""
    with pytest.raises(SettingsError, match=key) as caught:
        load({key: value}, None, {})
    assert IDENTITY not in str(caught.value)


def test_recipients_are_a_list() -> None:
    settings = load({"encryption.recipients": f"{RECIPIENT}, {RECIPIENT}"}, None, {}).settings
    assert settings.encryption.recipients == (RECIPIENT, RECIPIENT)


def test_metadata_of_an_encrypted_archive_say_nothing_of_it() -> None:
    """The store and everybody who may list it can read them."""
    assert metadata_of("a.zip.age", "secret-plan", "edge:device").keys() == {"agent"}
    assert metadata_of("a.zip", "nightly", "edge:device").keys() == {"agent", "correlation-id", "device"}
