"""An agent that listens on TCP and needs no broker: its settings say who it is."""

import socket
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.support.agent_process import AgentProcess
from tests.support.ports import free_port
from tests.support.settings_files import private_file
from tests.support.waiting import wait_until

TOKEN = "a-token-of-the-device-with-enough-letters"


class NetworkAgent(AgentProcess):
    def __init__(self, work: Path, token: str = TOKEN, **settings: Any) -> None:
        work.mkdir(parents=True, exist_ok=True)
        token_file = work / "token"
        private_file(token_file, token)
        self.port = free_port()
        http = {"http.listen": f"127.0.0.1:{self.port}", "http.tokenFile": str(token_file)}
        super().__init__(work, free_port(), deviceId="edge:device", **http, **settings)

    def start(self, *prefix: str) -> "NetworkAgent":
        """Start it, and wait until it listens."""
        super().start(*prefix)
        wait_until(self._listens, what="the agent to listen")
        return self

    def _listens(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0
