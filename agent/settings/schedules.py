"""The schedules of the settings: those by the clock, and the one called `kanto`.

`kanto` is due as Kanto's own properties and the operations `activate` and `deactivate` say.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.settings import Settings
    from agent.settings.group_defaults import ScheduleSettings

KANTO = "kanto"
"""The name of the schedule of Kanto's own settings."""


def schedule_of(settings: "Settings", name: str = KANTO) -> "ScheduleSettings":
    """Return the schedule of this name; `kanto` is there even when the settings do not name it."""
    from agent.settings.group_defaults import ScheduleSettings

    return settings.schedules[name] if name in settings.schedules else ScheduleSettings()


def share_archives(settings: "Settings", name: str) -> bool:
    """Return True when several stores of the schedule get one archive; repositories get snapshots instead."""
    stores = [settings.stores[store] for store in schedule_of(settings, name).store]
    return sum(store.format == "zip" for store in stores) > 1


def schedule_problems(settings: "Settings") -> Iterator[str]:
    """Yield the problems of `schedules`, a line each."""
    for name, schedule in settings.schedules.items():
        where = f"schedules.{name}"
        if name == KANTO and (schedule.times or schedule.cron or schedule.timezone):
            yield (
                f"{where}: is due as 'active' and 'period' say; for 'times', 'cron' and 'timezone' choose"
                " another name"
            )
        elif name != KANTO and bool(schedule.times) == bool(schedule.cron):
            yield f"{where}: expected either 'times' or 'cron'"
        if len(set(schedule.store)) < len(schedule.store):
            yield f"{where}.store: names a store twice; keep one"
        if schedule.dir and schedule.data_sets:
            yield f"{where}: expected either 'dir' or 'dataSets', not both"
        for unknown in sorted(set(schedule.data_sets) - settings.data_sets.keys()):
            known = ", ".join(sorted(settings.data_sets)) or "none is configured"
            yield f"{where}.dataSets: '{unknown}' is none of the data sets ({known})"
