"""The agent's HTTP as clients see it from the network."""

import json

from tests.support.agent_process import Logging
from tests.support.http_raw import RawClient, Received

TOKEN = "the-token-of-this-device-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Network:
    """The agent as clients see it from the network."""

    def __init__(self, agent: Logging) -> None:
        address = agent.wait_for_log("http listening")["address"]
        host, _, port = address.rpartition(":")
        self.agent, self.address, self.host = agent, (host, int(port)), address

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Received:
        """Send one request on a connection of its own."""
        given = {"Host": self.host, "Content-Length": str(len(body)), **(headers or {})}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {text}" for name, text in given.items() if text)]
        with RawClient(self.address) as client:
            client.send("\r\n".join([*lines, "", ""]).encode("latin-1"), body)
            return client.answer(method)

    def sign_in(self, token: str = TOKEN, **headers: str) -> Received:
        body = json.dumps({"token": token}).encode()
        return self.ask("POST", "/session", {"Content-Type": "application/json", **headers}, body)

    def cookie(self) -> dict[str, str]:
        """Return the header of a browser that has signed in."""
        answer = self.sign_in()
        assert answer.status == 204, answer
        return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
