"""Where a story plays: a device with something on it, made anew for each point, and a place behind HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.stories import NEW, NEW_SET, OLD, SET, STORIES, Story, Teller, check_goes_on
from tests.support.backend import Backend
from tests.support.http_server import HttpServer, Received, Say
from tests.support.incubator import Hatched, Incubator
from tests.support.repositories import PASSWORD
from tests.support.settings_files import private_file
from tests.support.syscalls import Call
from tests.support.trees import Found, contents, differences, make_tree, write_zip


@dataclass
class Stage:
    nest: Incubator
    port: int
    backend: Backend
    destination: Path
    url: str
    number: int = 0
    new: dict[str, dict[str, Found]] = field(default_factory=dict)
    """By story: what an undisturbed restore makes of the device."""
    old: dict[str, Found] = field(default_factory=dict)

    @contextmanager
    def agent(self) -> Iterator[Hatched]:
        """A device with `OLD` on it and an archive of `NEW` in its local target; its agent not started."""
        self.number += 1
        work = self.destination / str(self.number)
        paths = [str(work / "device" / "data" / name) for name in SET]
        work.mkdir()
        credentials = private_file(work / "store.json", json.dumps({"password": PASSWORD}))
        store = {"provider": "local", "format": "repository", "prefix": "repository"}
        agent = Hatched(
            self.nest,
            work,
            self.port,
            dataSets={"three": {"paths": paths}},
            stores={"repository": {**store, "credentials": credentials}},
        )
        make_tree(agent.data, OLD)
        self.old = contents(agent.data)
        archives = agent.storage / "archives"
        archives.mkdir(mode=0o700, parents=True)
        write_zip(archives / "it.zip", NEW)
        inside = f"three{agent.data}"
        write_zip(archives / "three.zip", {f"{inside}/{name}": node for name, node in NEW_SET.items()})
        try:
            yield agent
        finally:
            agent.kill()

    def rehearse(self, name: str) -> list[Call]:
        """Tell it undisturbed: the calls up to its end, and what the device looks like then."""
        with self.agent() as agent:
            supervisor = agent.start(watched=True)
            assert supervisor
            teller = Teller(agent, self.backend)
            STORIES[name](teller, self.url)
            teller.settle()
            calls = list(supervisor.calls)
            self.new[name] = contents(agent.data)
        return calls

    def tell(self, name: str, teller: Teller) -> None:
        """Tell it to an agent that has been started; check what must hold whatever happened meanwhile."""
        story: Story = STORIES[name]
        state = story(teller, self.url)
        teller.check_told_once("X")
        self.check_data(teller.agent, self.new[name] if state == "RESTORE_FINISHED" else self.old)
        check_goes_on(teller)

    def check_data(self, agent: Hatched, wanted: dict[str, Found]) -> None:
        """All of the device's data is entirely old, or entirely new."""
        found = differences(_settled(wanted), _settled(contents(agent.data)))
        assert not found, f"neither as before nor as restored: {found}"

    def killed(self, name: str, at: int, again_at: int = 0) -> None:
        """Tell it to an agent that is killed right before that call, and again after its restart."""
        with self.agent() as agent:
            agent.start(kill_at=at)
            self.tell(name, Teller(agent, self.backend, again_at))


def _settled(found: dict[str, Found]) -> dict[str, Found]:
    """Without the times of directories, which change with every name in them."""
    return {
        name: item._replace(mtime_ns=0) if item.kind == "directory" else item for name, item in found.items()
    }


@contextmanager
def place_for(archive: bytes) -> Iterator[str]:
    """The URL of a place that takes everything and gives this archive."""

    def answer(request: Received) -> Say:
        return Say(body=archive) if request.method == "GET" else Say(201)

    with HttpServer(answer) as server:
        yield f"{server.url}/it.zip"
