"""The settings by topic: the chapters of `run --help` and of docs/settings.md.

Classes follow the nesting of the file; sections follow what a reader looks for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.settings.keys import KEYS, Key


@dataclass(frozen=True, slots=True)
class Section:
    """Settings that a reader looks for together. A name that ends in a dot stands for all keys behind it."""

    name: str
    title: str
    words: str
    """The names, with blanks between them."""

    @property
    def names(self) -> list[str]:
        return self.words.split()

    def keys(self) -> list[Key]:
        """Return its settings, in the order of the model."""
        return [key for key in KEYS if self.holds(key.name)]

    def holds(self, name: str) -> bool:
        """Return True when the setting `name` belongs here."""
        return any(name == own or (own.endswith(".") and name.startswith(own)) for own in self.names)


SECTIONS: Sequence[Section] = (
    Section(
        "device",
        "Device and broker",
        "featureId type context deviceId tenantId clientId broker username password passwordFile caCert cert"
        " key shortTopics oneWayReplies announce dedupeWindow twin.",
    ),
    Section(
        "what",
        "What is saved",
        "dir mode exclude unexportable dataSets. backupCmd beforeBackupCmd afterBackupCmd sqlite sqlite."
        " strictBackup skipUnchanged archive.",
    ),
    Section(
        "where",
        "Where archives go, and how long they stay",
        "storage targets. stores. keepUploaded serverCert checksum retention. repository.",
    ),
    Section(
        "when",
        "When backups and verifications are made",
        "active activeFrom activeTill period schedules. singleUpload verify.",
    ),
    Section("encryption", "Encryption", "encryption."),
    Section("restore", "Restore", "restore. restoreCmd beforeRestoreCmd afterRestoreCmd"),
    Section(
        "limits",
        "Limits, and what commands may ask for",
        "jobTimeout hookTimeout stopTimeout storage. journal. transfer. allow.",
    ),
    Section("http", "HTTP", "http."),
    Section(
        "logs",
        "Logs, metrics and alarms",
        "logFile logLevel logFileCount logFileMaxAge logFileSize rpo onFailureCmd metrics.",
    ),
)

FIRST: Mapping[str, object] = {
    "broker": "ssl://gateway.example:8883",
    "deviceId": "edge:device",
    "dir": "/var/lib/app",
    "exclude": ["*.tmp", "cache/"],
    "stores.<name>.provider": "aws",
    "stores.<name>.options": {"aws.s3.bucket": "site-17", "aws.region": "eu-central-1"},
    "stores.<name>.credentials": "/etc/edge-backup/cloud.json",
    "schedules.<name>.times": ["02:00"],
    "schedules.<name>.store": "cloud",
    "retention.keepDaily": 7,
    "encryption.recipients": ["age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"],
    "onFailureCmd": "/etc/edge-backup/alarm",
}
"""The twelve settings that a fleet needs first, with examples: a store `cloud`, a schedule `nightly`."""
