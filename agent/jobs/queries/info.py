"""The question `info`: counts what a backup would save and skip now, and makes no archive.

One thread at a time walks over the device's data. The answer comes when it has ended, or after a time-out
with the counts until then. Belongs to the main thread.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.base.refusals import Refused
from agent.jobs.chosen_roots import ChosenRoots
from agent.jobs.filesystem_probe import Probes
from agent.jobs.formats import archive_format
from agent.jobs.operations import Tell
from agent.jobs.progress import JobProgress
from agent.jobs.queries.destinations import target_states
from agent.jobs.queries.fitting import missing, shortened
from agent.jobs.queries.late_answers import ANSWER_WITHIN_S, LateAnswers
from agent.jobs.requests.control import InfoRequest
from agent.jobs.requests.options import Selection
from agent.jobs.staging import OwnDirectories
from agent.mailbox import Mailbox
from agent.settings import Settings
from agent.transfer.cancel import CancelToken

if TYPE_CHECKING:
    from agent.save.inventory import Inventory

_CUT_FIRST = ("leftOut", "stores", "targets", "uploads", "dataSets", "mounts", "reasons")


@dataclass(slots=True)
class _Inventories:
    """The result, to which the thread adds."""

    inventories: "dict[str, Inventory]" = field(default_factory=dict)
    """By data set; that of a directory has the name ""."""
    own: tuple[Path, ...] = ()
    targets: dict[str, dict[str, Any]] = field(default_factory=dict)


class Info:
    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        progress: JobProgress,
        own: OwnDirectories,
        *,
        waiting: Callable[[], Mapping[str, Any]],
        within_s: float = ANSWER_WITHIN_S,
    ) -> None:
        """`waiting` returns what waits for a decision, as members of the answer."""
        self._settings, self._progress, self._own, self._waiting = settings, progress, own, waiting
        self._answers = LateAnswers("info", mailbox, within_s)

    def info(self, request: InfoRequest, room_bytes: int, tell: Tell) -> None:
        """Tell what a backup with this selection would save; with an empty one, all that the settings name.

        Raises `Refused` for an invalid selection, and while an earlier question is being answered.
        """
        self._answers.refuse_second()
        found, token = _Inventories(self._chosen(request.selection), self._own.paths()), CancelToken()
        self._answers.begin(
            partial(self._take_inventory, request.selection, found, token),
            token,
            lambda complete: self._value(found, room_bytes, complete=complete),
            tell,
        )

    def _take_inventory(self, selection: Selection, found: _Inventories, token: CancelToken) -> None:
        from agent.save.inventory import take_inventory

        settings = self._settings
        for name, state in target_states(settings, Probes()):
            found.targets[name] = state
            token.check()
        if not found.inventories:
            found.inventories = self._all(selection)
        saved_as, consistent = archive_format(settings), settings.sqlite == "consistent"
        for inventory in found.inventories.values():
            take_inventory(inventory, saved_as, found.own, token.check, consistent=consistent)

    def _chosen(self, selection: Selection) -> "dict[str, Inventory]":
        """Return an inventory for each chosen root; none for an empty selection."""
        from agent.save.inventory import Inventory

        inventories: dict[str, Inventory] = {}
        if selection.chooses:
            for part in ChosenRoots(self._settings).for_backup(selection):
                inventory = inventories.setdefault(part.root.prefix.partition("/")[0], Inventory())
                inventory.roots += (part,)
        return inventories

    def _all(self, selection: Selection) -> "dict[str, Inventory]":
        from agent.save.inventory import Inventory

        settings, selecting = self._settings, ChosenRoots(self._settings)
        inventories = {}
        if settings.backup_cmd:
            inventories[""] = Inventory(problem="backupCmd collects what is saved, at the time of a backup")
        elif settings.dir:
            inventories[""] = _inventory(selecting, selection)
        for name in settings.data_sets:
            inventories[name] = _inventory(selecting, replace(selection, data_sets=(name,)))
        return inventories

    def _value(self, found: _Inventories, room_bytes: int, *, complete: bool) -> Mapping[str, Any]:
        from agent.save.inventory import total

        inventories = dict(found.inventories)
        value = {
            "complete": complete,
            **total(inventories.values()),
            "dataSets": {name: _told(inventory) for name, inventory in inventories.items() if name},
            "targets": dict(found.targets),
            "stores": sorted(self._settings.stores),
            "job": self._progress.value(),
            "leftOut": [
                {"name": name, "reason": reason}
                for inventory in inventories.values()
                for name, reason in _skipped(inventory)
            ],
        }
        reports = [each.report for each in inventories.values()]
        value |= missing("leftOut", sum(each.skipped - len(each.unexportable) for each in reports))
        value |= self._waiting()
        if mounts := [name for each in reports for name in list(each.mounts)]:
            value["mounts"] = mounts
        if "" in inventories:
            value["directory"] = _told(inventories[""])
        return shortened(value, _CUT_FIRST, room_bytes)


def _inventory(selecting: ChosenRoots, selection: Selection) -> "Inventory":
    from agent.save.inventory import Inventory

    try:
        return Inventory(selecting.for_backup(selection))
    except Refused as error:
        return Inventory(problem=error.message)


def _skipped(inventory: "Inventory") -> list[tuple[str, str]]:
    report = inventory.report
    return [*report.unexportable, *report.passed_over]


def _told(inventory: "Inventory") -> dict[str, Any]:
    from agent.save.inventory import total

    counts = total([inventory])
    del counts["reasons"]
    return counts | ({"problem": inventory.problem} if inventory.problem else {})
