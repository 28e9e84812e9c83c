"""Snapshots read by the agent: a destination over a repository in a directory, and one restore."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import providers
from agent.base.device_ids import DeviceIds
from agent.base.roots import Root
from agent.formats.archive_names import OwnArchives, device_tag
from agent.formats.base import Unlock
from agent.formats.repository.saved_tree import SnapshotTree
from agent.formats.repository.snapshots import Snapshots
from agent.restore.choice import Choice
from agent.restore.find import Search
from agent.restore.flow import RestoreOrder, restore
from agent.restore.root import RestoreOptions
from agent.restore.target import Amount, RestoreTarget
from agent.restore.verify import Verified, VerifyOrder, verify
from agent.transfer.archive_files import Fetch
from agent.transfer.cancel import CancelToken
from agent.transfer.context import Context, Destination
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.retry import RetryLimits
from providers.api import Limits, Target
from tests.support.repositories import HOST, PASSWORD
from tests.support.restoring import LIMITS


def destination(
    repository: Path, name: str | None = None, prefix: str = "", token: CancelToken | None = None
) -> Destination:
    """The repository in a directory, as the provider `local` reads it."""
    limits = Limits(targets={"usb": Target(repository)})
    storage = providers.repository_factory("local")({"local.target": "usb"}, limits)
    guarded = GuardedStorage(storage, RetryLimits(attempts=1), token or CancelToken())
    return Destination(guarded, needs_size=False, name=name, prefix=prefix)


def opened(repository: Path, name: str, scratch: Path) -> SnapshotTree:
    """The content of a snapshot."""
    return Snapshots(PASSWORD, scratch, 1_000_000, 0).open(destination(repository, name), name, Unlock())


def restored(
    repository: Path,
    roots: Sequence[Root],
    scratch: Path,
    name: str | None = None,
    *,
    data_sets: Sequence[Root] = (),
    host: str | None = HOST,
    mode: str = "exact",
) -> Amount:
    """Restore a snapshot, the newest one without a name, as a job does; `host` None for any device."""
    token = CancelToken()
    source = destination(repository, name, token=token)
    options = RestoreOptions(limits=LIMITS, mode=mode, special_bits=True)
    return restored_from(source, roots, scratch, token, options, data_sets=data_sets, host=host)


def restored_from(
    source: Destination,
    roots: Sequence[Root],
    scratch: Path,
    token: CancelToken,
    options: RestoreOptions,
    *,
    data_sets: Sequence[Root] = (),
    host: str | None = HOST,
) -> Amount:
    """Restore a snapshot from any storage, as `restored`."""
    search = Search(OwnArchives(device_tag(host or HOST), {}), lambda: datetime.now(UTC))
    wanted = {root.prefix.partition("/")[0]: root.prefix.partition("/")[0] for root in data_sets}
    order = RestoreOrder(
        RestoreTarget(dict(enumerate(roots)), [], options),
        scratch / "download",
        source,
        search,
        Choice(tuple(roots), tuple(data_sets), wanted),
        Snapshots(PASSWORD, scratch, options.limits.max_files, 0),
        Unlock(),
        device=DeviceIds(host) if host else None,
    )
    return restore(order, Context("job-1", token, {}))


def verified(repository: Path, name: str, scratch: Path) -> Verified:
    """Verify a snapshot, all of it, as a job does."""
    fetch = Fetch(destination(repository, name), scratch / "download", 0)
    search = Search(OwnArchives(device_tag(HOST), {}), lambda: datetime.now(UTC))
    order = VerifyOrder(fetch, search, Snapshots(PASSWORD, scratch, 1_000_000, 0), Unlock(), LIMITS, {})
    return verify(order, Context("job-1", CancelToken(), {}))
