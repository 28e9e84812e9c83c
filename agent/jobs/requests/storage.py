"""The destination that a request names: a provider with its options, or a store of the settings.

A store is expanded as if the request had given its options. Its secrets are read from their file each time,
as they may be renewed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import SecretStr

import providers
from agent.base.redaction import is_secret_name
from agent.base.refusals import Reason, Refused
from agent.base.text import json_with_repeats, printable
from agent.jobs.requests.options import Key, Options, invalid_option
from agent.settings import Settings
from agent.settings.secret_files import read_private
from agent.settings.stores import NOT_OF_A_STORE, option_texts
from providers.api import Target
from providers.errors import BadOptions

_PASSWORD = "password"  # noqa: S105 (its name)
"""The secret of a repository, beside the options of its provider."""
_SNAPSHOT = re.compile(r"[0-9a-f]{4,64}")


@dataclass(frozen=True, slots=True)
class RepositoryOptions:
    prefix: str
    """Its directory, as the settings say it."""
    password: SecretStr
    snapshot: str = ""
    """The snapshot to read: its id, or how that begins; empty for the newest one of this device."""


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """A destination that can be opened: a provider and its options."""

    provider: str
    options: Mapping[str, str] = field(repr=False)
    """Credentials among them."""
    store: str = ""
    """The store of the settings that was named, if any."""
    repository: RepositoryOptions | None = None
    """None for a destination of archives."""

    @property
    def names_one(self) -> bool:
        """Return True when it names one archive, or one snapshot. Raises `Refused`."""
        if self.repository:
            return bool(self.repository.snapshot)
        key = archive_name_option(self.provider, self.options)
        return key is None or key in self.options

    def facts(self) -> dict[str, str]:
        return {"store": self.store} if self.store else {}


def read_storage(options: Options, settings: Settings, store_option: str) -> StorageOptions | None:
    """Read the destination that the options name; None for none. A URL alone means `generic`.

    Raises `Refused` as `_in_store` does.
    """
    given = {key: text for key, text in options if not key.startswith(NOT_OF_A_STORE)}
    if name := options.text(store_option):
        return _in_store(name, options, given, settings, store_option)
    provider = options.text("storage.provider") or ("generic" if options.text("https.url") else None)
    return StorageOptions(provider, given) if provider else None


def named(storage: StorageOptions, archive: str | None) -> StorageOptions:
    """Return the storage with the name of an archive, or a snapshot, in it. Raises `Refused`."""
    if archive is None:
        return storage
    if storage.repository:
        if not _SNAPSHOT.fullmatch(archive):
            raise invalid_option(Key.ARCHIVE, "must be the id of a snapshot, or its first 4 digits or more")
        return replace(storage, repository=replace(storage.repository, snapshot=archive))
    key = archive_name_option(storage.provider, storage.options)
    if key is None:
        raise invalid_option(Key.ARCHIVE, "is of no use here: the URL names the archive")
    if storage.options.get(key, archive) != archive:
        raise invalid_option(Key.ARCHIVE, f"contradicts '{key}': leave one out")
    return replace(storage, options={**storage.options, key: archive})


def configured_targets(settings: Settings) -> dict[str, Target]:
    """Return the targets of the settings, as providers know them."""
    return {name: Target(each.path, each.mount) for name, each in settings.targets.items()}


def required(storage: StorageOptions | None, settings: Settings) -> StorageOptions:
    """Return the destination that a request must name. Raises `Refused` for None."""
    if storage is None:
        stores = ", ".join(store_names(settings))
        raise invalid_option("storage.provider", f"is missing, and no store is named: choose one of {stores}")
    return storage


def _in_store(
    name: str, options: Options, added: Mapping[str, str], settings: Settings, store_option: str
) -> StorageOptions:
    """Return the store `name` with what the request adds: credentials, and the name of the object.

    Raises `Refused` for an unknown store, for another destination beside it, for an option that contradicts
    the store, and when the credentials cannot be read.
    """
    if name not in store_names(settings):
        raise invalid_option(store_option, f"must be one of: {', '.join(store_names(settings))}")
    if options.text("storage.provider"):
        raise Refused(Reason.INVALID, f"give option '{store_option}' or 'storage.provider', not both")
    store = store_storage(settings, name)
    for key, text in options:
        known_text = store.options.get(key, text)
        if known_text != text or not (key in store.options or _may_be_added(key, store)):
            raise invalid_option(key, f"contradicts store '{name}': leave it out")
    if store.repository and _PASSWORD in added:
        raise invalid_option(_PASSWORD, "belongs into the store's file of credentials")
    return replace(store, options={**added, **store.options})


def store_names(settings: Settings) -> list[str]:
    """Return the names of the stores, and then of the targets, each of which counts as one."""
    return list(dict.fromkeys((*sorted(settings.stores), *sorted(settings.targets))))


def store_storage(settings: Settings, name: str) -> StorageOptions:
    """Return the store, or else the target, with this name, and its secrets. Raises `Refused`."""
    if name not in settings.stores:
        return StorageOptions("local", {"local.target": name})
    store = settings.stores[name]
    try:
        secrets = _read(store.credentials) if store.credentials else {}
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        message = f"store '{name}': its file of credentials cannot be used: {reason}"
        raise Refused(Reason.CANNOT, message) from error
    if twice := sorted(secrets.keys() & store.options.keys()):
        message = f"store '{name}': '{twice[0]}' is in its options and in its credentials; keep one"
        raise Refused(Reason.CANNOT, message)
    repository = _repository(name, store.prefix, secrets) if store.format == "repository" else None
    return StorageOptions(store.provider, store.options | secrets, name, repository)


def _repository(name: str, prefix: str, secrets: dict[str, str]) -> RepositoryOptions:
    """Take the password out of the secrets. Raises `Refused`."""
    if not (password := secrets.pop(_PASSWORD, "")):
        message = f"store '{name}': its file of credentials has no 'password', which a repository needs"
        raise Refused(Reason.CANNOT, message)
    return RepositoryOptions(prefix, SecretStr(password))


def _may_be_added(key: str, store: StorageOptions) -> bool:
    """Return True for an option that a request may have beside a store: an object's name, or a credential.

    Only the store says where the archive goes: otherwise a request could send its credentials anywhere.
    """
    if key.startswith((*NOT_OF_A_STORE, "https.header.")) or is_secret_name(key):
        return True
    return key == archive_name_option(store.provider, store.options)


def archive_name_option(provider: str, options: Mapping[str, str]) -> str | None:
    """Return the option that names an archive; None where the address does. Raises `Refused`."""
    try:
        return providers.name_option(provider, options)
    except (BadOptions, providers.MissingExtra) as error:
        raise Refused(Reason.CANNOT, str(error)) from error


def _read(path: Path) -> dict[str, str]:
    """Return the options in a file that others cannot read. Raises OSError and ValueError."""
    content = read_private(path)
    try:
        value, twice = json_with_repeats(content)
        options = option_texts(value)
    except (ValueError, RecursionError):
        raise ValueError("it is not a JSON object of options") from None
    if twice:
        raise ValueError(f"'{printable(twice[0])}' is in it twice; keep one")
    return options
