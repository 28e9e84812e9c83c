"""The agent is killed right after any packet to its broker: between a PUBACK and its answer, for one.

What was acknowledged does not come again by itself, and its answer may have died with the agent. A backend
that sends the command again gets the stored answer, and everything has happened once.
"""

import os
import signal
from collections.abc import Iterator

import pytest

from providers.testing.faultproxy import Direction, FaultProxy
from tests.faults.stage import Stage
from tests.faults.stories import STORIES, Teller
from tests.faults.tally import tally
from tests.support.incubator import Hatched

SHORT_POINTS = 2
_PUBACK = 4


class Packets:
    """Counts the MQTT packets from an agent (MQTT 3.1.1, section 2), and kills it after one of them."""

    def __init__(self, agent: Hatched, kill_after: int = 0) -> None:
        """After the so-many-th, counted from 1; 0 for never."""
        self.kinds: list[int] = []
        self._agent, self._kill_after = agent, kill_after
        self._rest = b""

    def gate(self, direction: Direction, piece: bytes) -> int | None:
        """For a `FaultProxy`: what comes after that packet is lost."""
        if direction == "down" or 0 < self._kill_after <= len(self.kinds):
            return None
        self._rest += piece
        while length := _packet_bytes(self._rest):
            self.kinds.append(self._rest[0] >> 4)
            self._rest = self._rest[length:]
            if len(self.kinds) == self._kill_after:
                os.kill(self._agent.pid, signal.SIGKILL)
                return len(piece) - len(self._rest)
        return None


def _packet_bytes(data: bytes) -> int:
    """The length of the packet that `data` begins with; 0 when it is not all there."""
    length = 0
    for number, byte in enumerate(data[1:5]):
        length |= (byte & 127) << 7 * number
        if byte < 128:
            whole = 2 + number + length
            return whole if whole <= len(data) else 0
    return 0


@pytest.fixture
def proxy(stage: Stage) -> Iterator[FaultProxy]:
    """On the way of every agent of the stage to the broker."""
    with FaultProxy(("127.0.0.1", stage.port)) as proxy:
        stage.port = proxy.address[1]
        yield proxy


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", STORIES)
def test_killed_after_any_packet_everything_has_one_outcome_and_one_answer(
    name: str, stage: Stage, proxy: FaultProxy
) -> None:
    kinds = _rehearsed(name, stage, proxy)
    assert _PUBACK in kinds
    with tally(f"killed after a packet: {name}") as points:
        for number in sorted({*points.chosen(len(kinds), SHORT_POINTS), kinds.index(_PUBACK) + 1}):
            with (
                points.trying(f"packet {number} of {len(kinds)}, kind {kinds[number - 1]}"),
                stage.agent() as agent,
            ):
                proxy.gate = Packets(agent, number).gate
                agent.start()
                stage.tell(name, Teller(agent, stage.backend, patient=False))


def _rehearsed(name: str, stage: Stage, proxy: FaultProxy) -> list[int]:
    """The kinds of all packets, up to the story's end."""
    stage.rehearse(name)
    with stage.agent() as agent:
        packets = Packets(agent)
        proxy.gate = packets.gate
        agent.start()
        STORIES[name](Teller(agent, stage.backend), stage.url)
        return list(packets.kinds)
