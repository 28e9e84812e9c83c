"""The agent is killed in the middle of an upload to a cloud: nothing is left there, or a checkpoint knows it.

At calls that change the disk, and at pieces of what goes over the network: a request that is never answered
to whoever sent it may have been carried out all the same.
"""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from providers.testing.faultproxy import Direction, FaultProxy
from tests.contract import place_aws, place_azure
from tests.faults.stage import Stage
from tests.faults.stories import Teller, check_goes_on, hand_over_to
from tests.faults.tally import LONG, tally
from tests.support.incubator import Hatched

SHORT_POINTS, LONG_POINTS = 3, 60
SIZE_BYTES = 9 << 20
"""Two parts, or blocks."""
_SERVE = {"aws": place_aws.serve_rclone, "azure": place_azure.serve}

Options = dict[str, str]


class Cloud:
    """A place in a cloud, and the way to it."""

    def __init__(self, kind: str, destination: Any, proxy: FaultProxy) -> None:
        self.destination, self.proxy = destination, proxy
        here, there = f"127.0.0.1:{destination.server.port}", f"127.0.0.1:{proxy.address[1]}"
        given = {key: text.replace(here, there) for key, text in destination.options("x").items()}
        named = ("aws.object.key", "azure.blob.name")
        self.options = {"storage.provider": kind} | {k: v for k, v in given.items() if k not in named}

    def check_tidy(self, teller: Teller, *, stored: bool) -> None:
        """After one more small job there, which removes what a crash left, only whole archives are left."""
        big = teller.agent.data / "big"
        content = big.read_bytes()
        big.unlink()
        assert teller.run("backup", "tidy", self.options)["state"] == "BACKUP_FINISHED"
        big.write_bytes(content)
        teller.until(
            lambda: not self.destination.leftovers(), f"unfinished uploads: {self.destination.leftovers()}"
        )
        sizes = sorted(len(self.destination.read(name)) for name in self.destination.names())
        assert len(sizes) in ((2,) if stored else (1, 2)), sizes
        assert all(size > SIZE_BYTES for size in sizes[1:]), sizes

    def empty(self) -> None:
        """So that one point has nothing of another."""
        self.destination.abort_all()
        for name in self.destination.names():
            self.destination.remove(name)


@pytest.fixture(scope="module", params=list(_SERVE))
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with _SERVE[request.param](tmp_path_factory.mktemp("store") / "store") as make:
        yield request.param, make()


@pytest.fixture
def cloud(served: tuple[str, Any]) -> Iterator[Cloud]:
    kind, destination = served
    with FaultProxy(("127.0.0.1", destination.server.port)) as proxy:
        yield Cloud(kind, destination, proxy)


def stream(teller: Teller, options: Options) -> bool:
    """A backup straight to the cloud: whether it is stored there."""
    teller.announced()
    return bool(teller.run("backup", "X", options)["state"] == "BACKUP_FINISHED")


def hand_over(teller: Teller, options: Options) -> bool:
    teller.announced()
    return hand_over_to(options, teller) == "BACKUP_FINISHED"


STORIES: dict[str, Callable[[Teller, Options], bool]] = {"stream": stream, "hand-over": hand_over}


class Pieces:
    """Counts the pieces that go to and fro, and kills an agent at one of them."""

    def __init__(self, agent: Hatched, kill_at: int = 0, *, lost: bool = True) -> None:
        """At the so-many-th, counted from 1; 0 for never. It is `lost`, or the last one that gets through."""
        self.directions: list[Direction] = []
        self._agent, self._kill_at, self._lost = agent, kill_at, lost

    def gate(self, direction: Direction, piece: bytes) -> int | None:
        """For a `FaultProxy`."""
        self.directions.append(direction)
        if len(self.directions) != self._kill_at:
            return None
        os.kill(self._agent.pid, signal.SIGKILL)
        return 0 if self._lost else len(piece)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", STORIES)
def test_killed_in_an_upload_nothing_is_left_in_the_cloud(name: str, stage: Stage, cloud: Cloud) -> None:
    calls, directions = _rehearsed(name, stage, cloud)
    kind = cloud.options["storage.provider"]
    with tally(f"killed at a piece: {name} to {kind}") as points:
        # In the long form at every answer: what it answers has been done.
        answers = {number for number, way in enumerate(directions, 1) if way == "down"}
        chosen = points.chosen(len(directions), SHORT_POINTS, LONG_POINTS)
        for number in sorted(answers.union(chosen) if LONG else chosen):
            where = f"piece {number} of {len(directions)}, {directions[number - 1]}"
            with points.trying(where), _device(stage, cloud) as agent:
                lost = number in answers or number % 2 == 0
                cloud.proxy.gate = Pieces(agent, number, lost=lost).gate
                agent.start()
                _tell(name, agent, stage, cloud)
    with tally(f"killed at a call: {name} to {kind}") as points:
        for number in points.chosen(calls, SHORT_POINTS, LONG_POINTS):
            with points.trying(f"call {number} of {calls}"), _device(stage, cloud) as agent:
                agent.start(kill_at=number)
                _tell(name, agent, stage, cloud)


def _all_through(*_: object) -> None:
    """Kills nobody at any piece."""


@contextmanager
def _device(stage: Stage, cloud: Cloud) -> Iterator[Hatched]:
    with stage.agent() as agent:
        (agent.data / "big").write_bytes(random.Random(7).randbytes(SIZE_BYTES))
        cloud.proxy.gate = _all_through
        try:
            yield agent
        finally:
            agent.kill()
            cloud.empty()


def _rehearsed(name: str, stage: Stage, cloud: Cloud) -> tuple[int, list[Direction]]:
    """How many calls change the disk, and which way each piece goes, undisturbed."""
    with _device(stage, cloud) as agent:
        pieces = Pieces(agent)
        cloud.proxy.gate = pieces.gate
        supervisor = agent.start(watched=True)
        assert supervisor
        assert STORIES[name](Teller(agent, stage.backend), cloud.options)
        return len(supervisor.calls), list(pieces.directions)


def _tell(name: str, agent: Hatched, stage: Stage, cloud: Cloud) -> None:
    teller = Teller(agent, stage.backend)
    stored = STORIES[name](teller, cloud.options)
    # The way to the cloud is not cut into the same pieces every time: the last one may not have come yet.
    cloud.proxy.gate = _all_through
    teller.check_told_once("X")
    cloud.check_tidy(teller, stored=stored)
    check_goes_on(teller)
