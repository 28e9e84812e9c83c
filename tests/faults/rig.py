"""An agent whose way to its broker goes through a fault proxy, and a backend whose way does not."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from providers.testing.faultproxy import FaultProxy
from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.mosquitto import Mosquitto, mosquitto

LOCAL = {"storage.provider": "local", "local.name": "archive.zip"}


@dataclass(frozen=True)
class Rig:
    broker: Mosquitto
    proxy: FaultProxy
    backend: Backend
    agent: AgentProcess

    def works(self, correlation_id: str) -> None:
        """The proof that the agent is there: a whole backup."""
        assert self.backend.run("backup", correlation_id, LOCAL)["state"] == "BACKUP_FINISHED"


@contextmanager
def rig(work: Path, *prefix: str, **settings: Any) -> Iterator[Rig]:
    """A running agent that has announced itself; started under another program when `prefix` names one."""
    with (
        mosquitto(work / "mosquitto") as broker,
        FaultProxy(("127.0.0.1", broker.port)) as proxy,
        Backend(broker.port) as backend,
    ):
        agent = AgentProcess(work / "device", proxy.address[1], **settings)
        (agent.data / "app.json").write_text('{"interval": 30}')
        try:
            agent.start(*prefix)
            yield Rig(broker, proxy, backend, agent)
        finally:
            if agent.process and agent.process.poll() is None:
                agent.kill()
