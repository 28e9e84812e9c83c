"""Mount points inside a target. Nothing can be renamed into, out of or over one, so each is a root."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from agent.base.errors import IoError
from agent.base.mounts import kernel_mounts_below, mounts_below, overlap
from agent.base.roots import Root, is_in
from agent.base.text import readable


def apart(root: Root, own: Collection[Path]) -> list[Root]:
    """Return the root without its mount points, and a root for each of these.

    A mounted file is no root, nor a mount point in or at one of the agent's `own` directories, which a
    restore leaves alone, nor one whose content the root holds by another name, too. No root has what an
    archive holds of the kernel's own file systems, such as /proc.
    """
    kernel, names = kernel_mounts_below(root.directory), list[str]()
    for name in mounts_below(root.directory):
        if is_in(name, kernel):
            continue
        others = [root.directory, *(root.directory / other for other in names)]
        if _is_open(root.directory / name, own) and not any(
            overlap(root.directory / name, other) for other in others
        ):
            names.append(name)
    inner = [part for name in names if (part := _below(root, name, [*names, *kernel]))]
    without = frozenset(names if inner else ()) | kernel
    return [replace(root, without=without) if without else root, *inner]


def _is_open(path: Path, own: Collection[Path]) -> bool:
    return path.is_dir() and not any(path.is_relative_to(each) for each in own)


def _below(root: Root, mount: str, mounts: Sequence[str]) -> Root | None:
    """Return the root at a mount point; None when nothing below it was chosen."""
    within = [name.removeprefix(f"{mount}/") for name in mounts if name.startswith(f"{mount}/")]
    found = Root(root.archived(mount), root.directory / mount, None, frozenset(within))
    if root.holds(mount):
        return found
    chosen = {name.removeprefix(f"{mount}/") for name in root.names or () if name.startswith(f"{mount}/")}
    return replace(found, names=frozenset(chosen)) if chosen else None


def refuse_mounts(path: str, whole: bool, mounts: Sequence[str]) -> None:
    """Raise IoError when a mount point is in the way of an entry at `path`.

    `whole`: everything below `path` is replaced, so a mount point there is in the way, too.
    """
    for mount in mounts:
        if (path + "/").startswith(mount + "/") or (whole and mount.startswith(path + "/")):
            raise IoError(
                f"'{readable(mount)}' in the target is a mount point in the way of '{readable(path)}': "
                "unmount it, or choose other names with 'restore.paths'"
            )
