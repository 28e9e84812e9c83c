"""Finds on the device what a request chooses: data sets that the settings name, a directory, single paths.

A data set may be chosen in every access mode: the device's owner has named its paths. Single paths lie in
the directory that a command may name, or in the data sets that it chooses.
"""

import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agent.base.errors import AccessForbidden
from agent.base.patterns import PatternLists, anchored, excluding
from agent.base.refusals import Reason, Refused
from agent.base.roots import Root, data_set_roots, merged
from agent.base.text import readable
from agent.jobs.filesystem_probe import Probes
from agent.jobs.requests.options import ChosenPath, Key, Selection, invalid_option
from agent.save import access
from agent.settings import Settings

if TYPE_CHECKING:
    from agent.restore.choice import Choice
    from agent.save.walk import WalkRoot


@dataclass(frozen=True, slots=True)
class ChosenRoots:
    """Every method raises `Refused` for a name that does not exist or is not allowed."""

    settings: Settings
    probes: Probes = field(default_factory=Probes)

    def for_backup(self, selection: Selection) -> "tuple[WalkRoot, ...]":
        """Return the roots to save; a single path has to exist."""
        return self.probes.look_or_refuse(self._shown(selection), partial(self._for_backup, selection))

    def for_restore(self, selection: Selection, own: Collection[Path] = ()) -> "Choice":
        """Return the roots to restore, with their directories; `own`: the agent's directories."""
        return self.probes.look_or_refuse(
            self._shown(selection), lambda: self._for_restore(selection).over_mounts(own)
        )

    def _shown(self, selection: Selection) -> str:
        names = ", ".join(selection.data_sets or ())
        if names:
            return f"data set '{readable(names)}'"
        if selection.directory:
            return f"backup.dir '{readable(selection.directory)}'"
        return f"dir '{self.settings.dir}'"

    def _for_backup(self, selection: Selection) -> "tuple[WalkRoot, ...]":
        data_sets = self._data_sets(selection, Key.BACKUP_DATA_TYPES)
        paths = selection.paths or ()
        if data_sets:
            chosen = self._narrowed(data_sets, paths, Key.BACKUP_PATHS)
            for root in chosen:
                for path in paths:
                    name = root.relative(f"{_data_set(root)}/{path.name}")
                    if name and root.holds(name):
                        _check_there(root.directory, name, path.given)
            return tuple(self.part(root, selection, _data_set(root)) for root in chosen)
        directory = self._directory(selection.directory, must_exist=True)
        names = self._names_in(directory, selection, Key.BACKUP_PATHS)
        for name, given in names.items():
            _check_there(directory, name, given)
        return (self.part(_named(directory, names), selection),)

    def _for_restore(self, selection: Selection) -> "Choice":
        from agent.restore.choice import Choice

        data_sets = self._data_sets(selection, Key.RESTORE_DATA_TYPES)
        paths = selection.paths or ()
        if not data_sets:
            directory = self._directory(selection.directory, must_exist=False)
            names = self._names_in(directory, selection, Key.RESTORE_PATHS)
            return Choice((_named(directory, names),), wanted={name: names[name] for name in names if name})
        wanted = {f"{data_set}/{path.name}": path.given for path in paths for data_set in data_sets}
        return Choice(
            self._narrowed(data_sets, paths, Key.RESTORE_PATHS),
            self._narrowed(data_sets, (), Key.RESTORE_PATHS),
            wanted or {data_set: data_set for data_set in data_sets},
        )

    def _directory(self, directory: str | None, *, must_exist: bool) -> Path:
        """Resolve the directory of a backup or restore; None means the setting `dir`. Raises `Refused`."""
        settings = self.settings
        if not directory and not settings.dir:
            message = "no directory: give option 'backup.dir', or set 'dir' on the device"
            raise Refused(Reason.INVALID, message)
        configured = str(settings.dir.absolute()) if settings.dir else None
        try:
            path = access.resolve(directory, configured, settings.mode, must_exist)
            access.refuse_inside(path, settings.storage)
        except AccessForbidden as error:
            raise Refused(Reason.CANNOT, str(error)) from error
        return path

    def _data_sets(self, selection: Selection, option: str) -> tuple[str, ...]:
        chosen, known = selection.data_sets or (), self.settings.data_sets
        if unknown := [name for name in chosen if name not in known]:
            names = ", ".join(sorted(known)) or "none is configured"
            raise _invalid(option, f"there is no data set '{readable(unknown[0])}', only: {names}")
        return chosen

    def _narrowed(
        self, data_sets: tuple[str, ...], paths: tuple[ChosenPath, ...], option: str
    ) -> tuple[Root, ...]:
        """Return the roots of the data sets, narrowed to the paths; every path has to be in one of them."""
        roots = [root for name in data_sets for root in self._roots(name)]
        found = []
        for path in paths:
            if not path.is_absolute:
                raise _invalid(option, f"'{readable(path.given)}' must be absolute in a data set")
            names = [f"{data_set}/{path.name}" for data_set in data_sets]
            narrowed = [part for root in roots for name in names if (part := root.narrowed(name))]
            if not narrowed:
                raise _invalid(option, f"'{readable(path.given)}' is in none of the chosen data sets")
            found += narrowed
        return merged(found if paths else roots)

    def _roots(self, data_set: str) -> tuple[Root, ...]:
        try:
            roots = data_set_roots(data_set, self.settings.data_sets[data_set].paths)
            for root in roots:
                access.refuse_inside(root.directory, self.settings.storage)
        except AccessForbidden as error:
            raise Refused(Reason.CANNOT, f"data set '{data_set}': {error}") from error
        except OSError as error:
            message = f"data set '{data_set}' cannot be looked at: check links and permissions"
            raise Refused(Reason.CANNOT, message) from error
        return roots

    def _names_in(self, directory: Path, selection: Selection, option: str) -> dict[str, str]:
        """Return the chosen paths relative to the directory, each with the path as the command gave it."""
        given = selection.directory or str(self.settings.dir)
        names = {}
        for path in selection.paths or ():
            name = path.name
            if path.is_absolute:
                above = [str(each).strip("/") for each in (directory, given)]
                inside = [each for each in above if f"{name}/".startswith(f"{each}/" if each else "")]
                if not inside:
                    shown = f"'{readable(path.given)}' is not in '{readable(str(directory))}'"
                    raise Refused(Reason.CANNOT, f"option '{option}': {shown}")
                name = name[len(inside[0]) :].strip("/")
            names[name] = path.given
        return names

    def part(self, root: Root, selection: Selection, data_set: str | None = None) -> "WalkRoot":
        """Return the root with the patterns of settings, data set and command."""
        from agent.save.walk import WalkRoot

        settings = self.settings
        lists: PatternLists = (settings.exclude, selection.exclude)
        unexportable = anchored(excluding(settings.unexportable), root.directory)
        if data_set is None:
            return WalkRoot(root, excluding(*lists), unexportable, lists)
        lists = *lists, settings.data_sets[data_set].exclude
        return WalkRoot(root, anchored(excluding(*lists), root.directory), unexportable, lists)


def _data_set(root: Root) -> str:
    return root.prefix.partition("/")[0]


def _named(directory: Path, names: dict[str, str]) -> Root:
    """Return the whole directory when it is among the names, or when there are none."""
    return Root("", directory, frozenset(names) if names and "" not in names else None)


def refuse_choosing(selection: Selection, command: str, data_types: str, paths: str) -> None:
    """Raise `Refused` for a choice where the device's own `command` decides what is worked on."""
    for option, chosen in ((data_types, selection.data_sets), (paths, selection.paths)):
        if chosen is not None:
            message = f"no option '{option}' here: the device's {command} decides that"
            raise Refused(Reason.INVALID, message)


def _check_there(directory: Path, name: str, shown: str) -> None:
    """Raise `Refused` unless the name exists and no link leads to it, as a backup follows none."""
    where = os.fspath(directory)
    *above, last = name.split("/")
    try:
        for part in above:
            where = os.path.join(where, part)
            if not stat.S_ISDIR(os.lstat(where).st_mode):
                raise _refused(shown, "is below something that is not a directory; links are not followed")
        os.lstat(os.path.join(where, last))
    except FileNotFoundError as error:
        raise _refused(shown, f"does not exist in '{readable(str(directory))}'") from error
    except OSError as error:
        raise _refused(shown, "cannot be looked at: check permissions on the way to it") from error


def _refused(path: str, problem: str) -> Refused:
    return Refused(Reason.CANNOT, f"option '{Key.BACKUP_PATHS}': '{readable(path)}' {problem}")


def _invalid(option: str, problem: str) -> Refused:
    return invalid_option(option, problem, ": ")
