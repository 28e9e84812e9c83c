"""Admission: refuses a command that cannot work before it is accepted, without the network.

It refuses all that the device knows to be wrong: a directory outside the access mode, options that the
provider cannot use, a stick that is not plugged in, a host or bucket that `allow.*` forbids.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING

import providers
from agent import __version__
from agent.base.redaction import secret_values
from agent.base.refusals import Reason, Refused
from agent.base.roots import Root
from agent.base.text import readable
from agent.formats.archive_names import ENCRYPTED, archive_name
from agent.jobs.device import filled_in, options_for
from agent.jobs.filesystem_probe import Probes
from agent.jobs.output_file import output_file
from agent.jobs.requests.storage import RepositoryOptions, StorageOptions, configured_targets
from agent.settings import Settings
from agent.transfer.context import Destination
from agent.transfer.guarded_storage import GuardedStorage
from agent.transfer.retry import RetryLimits
from providers.allow import Allow
from providers.api import Capability, Limits, Storage, check_name
from providers.errors import BadOptions, NotAllowed, StorageError
from providers.free_space import Reserve
from providers.prefix import opened

if TYPE_CHECKING:
    from agent.transfer.connections import Connections

_NO_ARCHIVES = "a pending upload is a whole archive; name the store in the command for the backup instead"
_ENCRYPTING_BUFFER_BYTES = 8 << 20
"""For the parts of an upload, half of what is usual: the library that encrypts needs the other half."""
_MAX_URL_NAME = 255
"""Letters of a name from a URL that are kept: it is only told."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A command that may run: first `record`, in a unit of work, and after its COMMIT `begin`."""

    job_id: str | None
    record: Callable[[], None]
    begin: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Admission:
    """The device's own rules, from its settings. Belongs to the main thread."""

    settings: Settings
    probes: Probes = field(default_factory=Probes)

    def destination(
        self,
        chosen: StorageOptions,
        connections: "Connections",
        device_id: str,
        default_name: str | None,
        metadata: Mapping[str, str] | None = None,
        *,
        encrypted: bool = False,
    ) -> Destination:
        """Open the destination that the options name for this device. Raises `Refused`.

        The object has the name in the options, else `default_name`. With None for that, it is found by a
        listing, which some providers do not have. An archive that is `encrypted` gets less memory for parts.
        """
        if chosen.repository:
            raise Refused(Reason.CANNOT, f"store '{chosen.store}' keeps a repository: {_NO_ARCHIVES}")
        limits = self._limits(connections)
        if encrypted:
            limits = replace(limits, buffer_bytes=_ENCRYPTING_BUFFER_BYTES)
        target = chosen.options.get("local.target")
        shown = f"target '{target}'" if target else f"the destination of provider '{chosen.provider}'"
        try:
            factory = providers.factory(chosen.provider)
            storage = opened(factory, options_for(chosen.options, factory, device_id), limits)
            self.probes.look_or_refuse(shown, partial(storage.preflight, default_name is not None))
            key = providers.name_option(chosen.provider, chosen.options)
            name = chosen.options.get(key) if key else default_name or _named_by_url(storage)
            if name and key:
                check_name(name, key)
            if not name and default_name is None and Capability.LIST not in storage.capabilities:
                raise BadOptions({str(key): "is missing"})
        except (StorageError, providers.MissingExtra) as error:
            raise _refused(error) from error
        guarded = self._guarded(storage, connections, secret_values(chosen.options))
        sdk = providers.loads_sdk(chosen.provider)
        return Destination(guarded, factory.needs_size, name or default_name, metadata or {}, loads_sdk=sdk)

    def source(
        self, chosen: StorageOptions, connections: "Connections", device_id: str, name: str | None = None
    ) -> Destination:
        """Open the destination of an archive, or a snapshot, that is read. Raises `Refused`.

        It has the name in the options, else `name`; with None for both, it is found by a listing.
        """
        if chosen.repository is None:
            return self.destination(chosen, connections, device_id, name)
        found = self._repository(chosen, chosen.repository, connections, device_id, writing=False)
        return replace(found, name=chosen.repository.snapshot or None)

    def repository(
        self, chosen: StorageOptions, connections: "Connections", device_id: str, *, pruning: bool = False
    ) -> Destination:
        """Open the repository of a store for a backup, or to make room in it. Raises `Refused`."""
        assert chosen.repository
        window = self.settings.repository.prune_window
        if window and window.covers(datetime.now(UTC)):
            message = f"store '{chosen.store}': the prune window is open ({window} UTC)"
            raise Refused(Reason.BUSY, f"{message}; see repository.pruneWindow")
        return self._repository(
            chosen, chosen.repository, connections, device_id, writing=True, pruning=pruning
        )

    def pruned(self, chosen: StorageOptions, connections: "Connections", device_id: str) -> Destination:
        """Open a destination for retention. Raises `Refused`."""
        if chosen.repository is None:
            return self.destination(chosen, connections, device_id, None)
        return self.repository(chosen, connections, device_id, pruning=True)

    def _repository(
        self,
        chosen: StorageOptions,
        repository: RepositoryOptions,
        connections: "Connections",
        device_id: str,
        *,
        writing: bool,
        pruning: bool = False,
    ) -> Destination:
        limits = self._limits(connections)
        if pruning:
            limits = replace(limits, reserve=None)  # it makes room, and needs a little for that
        try:
            prefix = filled_in(f"stores.{chosen.store}.prefix", repository.prefix, device_id)
            refuse_without_repositories()
            factory = providers.repository_factory(chosen.provider)
            if (key := factory.name_option) and key in chosen.options:
                raise BadOptions({key: "names one archive, and a repository has many objects"})
            if prefix:
                check_name(prefix, f"stores.{chosen.store}.prefix")
            storage = opened(factory, options_for(chosen.options, factory, device_id), limits)
            self.probes.look_or_refuse(f"store '{chosen.store}'", partial(storage.preflight, writing))
        except (StorageError, providers.MissingExtra) as error:
            raise _refused(error) from error
        guarded = self._guarded(storage, connections, secret_values(chosen.options))
        sdk = providers.loads_sdk(chosen.provider)
        return Destination(guarded, factory.needs_size, None, prefix=prefix, loads_sdk=sdk)

    def output(self, path: str, roots: Iterable[Root], connections: "Connections") -> Destination:
        """Open the file that somebody at the device wants the archive of `roots` in; replaced in one step.

        Raises `Refused`, also when the agent may not write there.
        """
        outside = (Root("", self.settings.storage.absolute()), *roots)
        open_file = partial(output_file, path, outside, self._limits(connections))
        storage, name = self.probes.look_or_refuse(f"output '{readable(path)}'", open_file)
        return Destination(self._guarded(storage, connections), storage.needs_size, name)

    def _guarded(
        self, storage: Storage, connections: "Connections", secrets: frozenset[str] = frozenset()
    ) -> GuardedStorage:
        transfer = self.settings.transfer
        retries = RetryLimits(transfer.attempts, transfer.total_time.total_seconds())
        return GuardedStorage(storage, retries, connections.token, secrets)

    def _limits(self, connections: "Connections") -> Limits:
        transfer = self.settings.transfer
        given = self.settings.allow
        allow = Allow(given.hosts, given.buckets, loopback=given.loopback, plain_http=given.plain_http)
        return Limits(
            connect_timeout_s=transfer.connect_timeout.total_seconds(),
            read_timeout_s=transfer.read_timeout.total_seconds(),
            ca_file=self.settings.server_cert,
            checksum=self.settings.checksum,
            proxy=transfer.proxy.get_secret_value() or None,
            allow=allow,
            connect=partial(connections.open, check=allow.check_address),
            connect_proxy=connections.open,
            check=connections.token.check,
            targets=configured_targets(self.settings),
            reserve=Reserve(self.settings.storage, self.settings.storage_reserve),
        )


def _refused(error: StorageError | providers.MissingExtra) -> Refused:
    """Return the refusal for what a provider cannot do.

    Not a context manager: the error would hold its own frames, and a command's secrets with them, until
    the next garbage collection.
    """
    if isinstance(error, BadOptions):
        return Refused(Reason.INVALID, str(error))
    return Refused(Reason.FORBIDDEN if isinstance(error, NotAllowed) else Reason.CANNOT, str(error))


def _named_by_url(storage: Storage) -> str:
    """Return the last part of the URL that the options give in place of a name; a new name without one."""
    return storage.location("").rpartition("/")[2][-_MAX_URL_NAME:] or archive_name(datetime.now(UTC), "")


def refuse_without_repositories() -> None:
    """Raise `Refused` where the extra for repositories is not installed."""
    if find_spec("cryptography") is None:  # there are fallbacks for the other modules
        message = "repositories are not installed on this device: install edge-backup-agent[repository]"
        raise Refused(Reason.CANNOT, message)


def metadata(archive: str, correlation_id: str, device_id: str) -> dict[str, str]:
    """Return the metadata that a provider stores beside the archive of this name.

    They are readable for everybody who can list, and so say nothing of an encrypted archive.
    """
    agent = {"agent": f"edge-backup/{__version__}"}
    if archive.endswith(ENCRYPTED):
        return agent
    return agent | {"correlation-id": correlation_id, "device": device_id}
