"""The problems of schedules that their values alone do not show."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.settings import Settings

KANTO = "kanto"
"""The name of the schedule of Kanto's own settings."""


def schedule_problems(settings: "Settings") -> Iterator[str]:
    """Yield the problems of `schedules`, a line each."""
    for name, schedule in settings.schedules.items():
        where = f"schedules.{name}"
        if name == KANTO:
            yield f"{where}: this is the schedule of 'active' and 'period'; choose another name"
        if bool(schedule.times) == bool(schedule.cron):
            yield f"{where}: expected either 'times' or 'cron'"
        if schedule.dir and schedule.data_sets:
            yield f"{where}: expected either 'dir' or 'dataSets', not both"
        for unknown in sorted(set(schedule.data_sets) - settings.data_sets.keys()):
            known = ", ".join(sorted(settings.data_sets)) or "none is configured"
            yield f"{where}.dataSets: '{unknown}' is none of the data sets ({known})"
