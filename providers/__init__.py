"""Providers of storage, found by name and loaded when first used."""

from collections.abc import Mapping
from importlib import import_module, metadata
from typing import cast

from providers.api import Capability, StorageFactory
from providers.errors import BadOptions

_BUILT_IN = {
    "aws": "providers.aws:S3",
    "azure": "providers.azure:AzureBlob",
    "generic": "providers.https:Https",
    "local": "providers.local:Local",
}
_NEEDS = {"aws": "boto3", "azure": "azure-storage-blob"}
"""Packages that come with an extra; imported on first use."""
_FOR_REPOSITORIES = frozenset(Capability) - {Capability.RESUME_STREAM}
HTTPS_NAME = "https.name"
"""Names an object below an `https.url` that ends in a slash."""
_ALIASES = {"https": "generic"}
_GROUP = "edge_backup.providers"


class MissingExtra(Exception):
    """The library of a provider is not installed. `extra` names the extra to install."""

    def __init__(self, name: str) -> None:
        super().__init__(f"provider '{name}' is not installed here: install edge-backup-agent[{name}]")
        self.extra = name


def names() -> list[str]:
    """Return all provider names, sorted: the built-in ones and those of installed entry points."""
    return sorted({*_BUILT_IN, *(point.name for point in metadata.entry_points(group=_GROUP))})


def usable() -> list[str]:
    """Return the names of the providers whose libraries are installed, sorted."""
    return [name for name in names() if _is_installed(name)]


def _is_installed(name: str) -> bool:
    """Return True when the extra of the provider is installed; its modules are not imported for that."""
    try:
        return name not in _NEEDS or bool(metadata.distribution(_NEEDS[name]))
    except metadata.PackageNotFoundError:
        return False


def factory(name: str) -> StorageFactory:
    """Import and return the factory called `name` (or its alias).

    Raises `BadOptions` for an unknown name, `MissingExtra` when its library is not installed.
    """
    name = _ALIASES.get(name, name)
    try:
        if path := _BUILT_IN.get(name):
            if not _is_installed(name):
                raise MissingExtra(name)
            module, _, attribute = path.partition(":")
            return cast(StorageFactory, getattr(import_module(module), attribute))
        for point in metadata.entry_points(group=_GROUP, name=name):
            return cast(StorageFactory, point.load())
    except ImportError as error:
        raise MissingExtra(name) from error
    raise BadOptions({"storage.provider": f"must be one of {', '.join(names())}"})


def repository_factory(name: str) -> StorageFactory:
    """Return the factory of storages that can keep a repository; for `generic` that of REST servers.

    Raises as `factory`, and `BadOptions` for a provider that cannot keep one.
    """
    if _ALIASES.get(name, name) == "generic":
        from providers.rest import RestServer

        return RestServer
    found = factory(name)
    if not found.capabilities >= _FOR_REPOSITORIES:
        raise BadOptions({"storage.provider": f"'{name}' cannot keep a repository"})
    return found


def loads_sdk(name: str) -> bool:
    """Return True for a provider that loads a large library, which takes some 20 MiB of memory."""
    return name in _NEEDS


def name_option(name: str, options: Mapping[str, str]) -> str | None:
    """Return the option that names an object; None where the URL in `options` does. Raises as `factory`."""
    found = factory(name)
    below_url = found.kind == "generic" and options.get("https.url", "").endswith("/")
    return HTTPS_NAME if below_url else found.name_option
