"""Finds the destination of the device that a document means: the documents have words of their own, or none.

docs/decisions/0020-documents-over-http.md says why.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from agent.jobs.queries.destinations import known_name_option
from agent.journal.jobs import JobRecord
from agent.settings import Settings
from agent.settings.schedules import schedule_of

WireOptions = Mapping[str, Any]
"""Options of a command, as docs/wire.md lists them."""


def named_stores(settings: Settings) -> dict[str, str]:
    """Return the provider of each store; a target counts as a store, unless one has its name."""
    targets = dict.fromkeys(settings.targets, "local")
    return targets | {name: store.provider for name, store in settings.stores.items()}


def in_store(settings: Settings, name: str) -> WireOptions:
    return {"backup.store": name} if name in settings.stores else in_target(name)


def in_target(name: str) -> WireOptions:
    return {"storage.provider": "local", "local.target": name}


def default_destination(settings: Settings) -> WireOptions | None:
    """Return the destination of a backup that names none: that of the schedule, else the device itself."""
    if stores := schedule_of(settings).store:
        return in_store(settings, stores[0])
    name = device_target(settings)
    return None if name is None else in_target(name)


def device_target(settings: Settings) -> str | None:
    """Return the target `device`, else the first that is always there; None without one."""
    return _target(settings, ("device",), mount=False)


def stick_target(settings: Settings) -> str | None:
    """Return the target `UsbKey` or `usb`, else the first that may be unplugged; None without one."""
    return _target(settings, ("usbkey", "usb"), mount=True)


def _target(settings: Settings, names: Iterable[str], *, mount: bool) -> str | None:
    by_name = {name.lower(): name for name in settings.targets}
    named = [by_name[name] for name in names if name in by_name]
    by_kind = [name for name, target in settings.targets.items() if target.mount is mount]
    return next(iter([*named, *by_kind]), None)


def everything(settings: Settings) -> WireOptions:
    """Return the choice of a backup that chooses nothing: the directory, or all data sets without one."""
    if settings.dir or settings.backup_cmd or not settings.data_sets:
        return {}
    return {"backup.dataTypes": sorted(settings.data_sets)}


def location_of(record: JobRecord, settings: Settings) -> tuple[str, WireOptions] | None:
    """Return the store or target that has a backup's archive, and the options that fetch it from there.

    None when this device cannot fetch it by itself: it is gone, or a command brought the credentials.
    """
    archive = str(record.facts.get("archive", ""))
    if not archive or record.facts.get("removed"):
        return None
    if store := record.facts.get("store"):
        return _in_store_of(str(store), archive, settings)
    kind, _, place = str(record.facts.get("place", "")).partition(":")
    target, _, name = place.partition("/")
    if kind != "local" or target not in settings.targets:
        return None
    return target, {**in_target(target), "local.name": name}


def _in_store_of(name: str, archive: str, settings: Settings) -> tuple[str, WireOptions] | None:
    store = settings.stores.get(name)
    if store is None:
        return None
    if store.format == "repository":
        return name, {"restore.store": name, "restore.archive": archive}
    key = known_name_option(store)
    return name, {"restore.store": name, **({key: archive} if key else {})}
