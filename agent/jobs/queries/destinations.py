"""The destinations of this device: targets with their free space, and stores. A query may wait for a disk."""

import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from agent.base.refusals import Refused
from agent.jobs.filesystem_probe import NoAnswer, Probes
from agent.jobs.requests.options import Key
from agent.jobs.requests.storage import archive_name_option, configured_targets
from agent.settings import Settings
from agent.settings.group_defaults import StoreSettings

_CONTAINERS = {"aws": "aws.s3.bucket", "azure": "azure.blob.container"}
"""For each provider, the option that names the container of its archives."""
_DIRECTORY = "local.directory"


def target_states(settings: Settings, probes: Probes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each target with its members `present`, and `freeBytes` or `problem`."""
    from agent.save.inventory import look_at_target

    targets = configured_targets(settings)
    for name in targets:
        try:
            state = probes.look(name, partial(look_at_target, name, targets))
        except NoAnswer:
            state = {"present": False, "problem": "it does not answer: is its file server there?"}
        yield name, state


class Destinations:
    """Not for the main thread: a disk that does not answer makes each asker wait for a while."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._probes, self._lock = settings, Probes(), threading.Lock()

    def value(self) -> Mapping[str, Any]:
        """Return the lists `targets` and `stores`; no store is contacted."""
        settings = self._settings
        with self._lock:
            states = dict(target_states(settings, self._probes))
        targets = [
            {"name": name, "path": str(each.path), "removable": each.mount, **states[name]}
            for name, each in settings.targets.items()
        ]
        return {"targets": targets, "stores": [_store(*each) for each in sorted(settings.stores.items())]}


def _store(name: str, store: StoreSettings) -> dict[str, Any]:
    is_repository = store.format == "repository"
    key = Key.ARCHIVE.value if is_repository else known_name_option(store)
    value: dict[str, Any] = {"name": name, "provider": store.provider, "nameOption": key}
    if is_repository:
        value["format"] = store.format
    if store.provider == "local":
        value["target"] = store.options.get("local.target", "device")
        if directory := store.options.get(_DIRECTORY):
            value["directory"] = directory
    elif container := store.options.get(_CONTAINERS.get(store.provider, "")):
        value["container"] = container
    return value


def known_name_option(store: StoreSettings) -> str | None:
    """Return the option that names an archive; None where there is none, or the provider cannot be used."""
    try:
        return archive_name_option(store.provider, store.options)
    except Refused:
        return None
