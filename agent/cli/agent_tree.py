"""An archive that the running agent reads: it has credentials that only the service gets."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from agent.base.refusals import Reason, Refused
from agent.base.times import parse_time
from agent.cli.api_client import Agent, AgentRefused, Value, in_path
from agent.formats.base import EntryKind, Item
from agent.formats.manifest import Manifest
from agent.jobs.requests.options import Key, Options

MOST_IN_A_PAGE = 500


class AgentTree:
    """An archive in a store, read over the API of the agent.

    Methods raise `AgentRefused` and `NotAnswered`, and `ManifestBroken` as `Manifest.from_json`.
    """

    def __init__(self, agent: Agent, store: str, name: str, handle: str) -> None:
        """`handle` stands for the key of an encrypted archive; "" for none."""
        self._agent, self._path = agent, f"/archives/{in_path(store)}/{in_path(name)}"
        self._query = {"handle": handle} if handle else {}

    def manifest(self) -> Manifest | None:
        value = self._agent.get(self._path, **self._query)["manifest"]
        return Manifest.from_json(json.dumps(value).encode()) if value else None

    def items(self) -> Iterator[Item]:
        after: int | None = 0
        while after is not None:
            page = self._agent.get(
                f"{self._path}/files", deep="true", after=after, limit=MOST_IN_A_PAGE, **self._query
            )
            yield from map(_item, page["entries"])
            after = page.get("next")

    def checksum(self, item: Item) -> str | None:
        text: str | None = item.location
        return text

    def read(self, item: Item, write: Callable[[bytes], object]) -> None:
        self._agent.download(f"{self._path}/files/content", {"path": item.name, **self._query}, write)


def opened_by(agent: Agent, options: Options) -> AgentTree:
    """Return the archive that the options name, as the agent opens it. Raises `Refused` and `NotAnswered`."""
    try:
        store = options.text(Key.RESTORE_STORE) or ""
        name = options.text(Key.ARCHIVE) or _newest(agent, store, options)
        secrets = {"passcode": Key.RESTORE_PASSCODE, "identity": Key.RESTORE_IDENTITY}
        key = {member: text for member, option in secrets.items() if (text := options.text(option))}
        opening = {"name": name, **key}
        handle = agent.post(f"/archives/{in_path(store)}/open", opening)["handle"] if key else ""
        return AgentTree(agent, store, name, handle)
    except AgentRefused as refused:
        raise Refused(Reason.CANNOT, str(refused)) from refused


def _newest(agent: Agent, store: str, options: Options) -> str:
    if options.text(Key.BEFORE) or options.text(Key.SOURCE):
        raise Refused(Reason.INVALID, "name the archive with --archive: 'edge-backup archives' lists them")
    device = options.text(Key.FROM_DEVICE) or ""
    found: list[Mapping[str, Any]] = agent.get("/archives", store=store, limit=1, device=device)["archives"]
    if not found:
        raise Refused(Reason.NOT_FOUND, f"store '{store}' has no archive of this device")
    return str(found[0]["name"])


def _item(facts: Value) -> Item:
    mode, modified = facts.get("mode"), facts.get("modified")
    time = parse_time(modified) if modified else None
    return Item(
        name=facts["name"],
        kind=EntryKind(facts["kind"]),
        mode=None if mode is None else int(mode, 8),
        mtime_ns=None if time is None else round(time.timestamp() * 1_000_000) * 1000,
        uid=facts.get("uid"),
        gid=facts.get("gid"),
        size=facts["sizeBytes"],
        packed_size=facts.get("compressedBytes", 0),
        xattrs={},
        hard_link_to=facts.get("hardLinkTo"),
        location=facts.get("crc32"),
    )
