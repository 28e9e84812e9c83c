"""TLS to the broker: never old, never unverified, and what changed on the disk counts at the next connect."""

import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest
import trustme

from agent.mqtt import link as link_module
from agent.mqtt.link import Broker
from tests.support.mosquitto import mosquitto
from tests.support.mqtt_peer import Peer
from tests.support.ports import free_port
from tests.support.require import require
from tests.support.waiting import wait_until

# paho leaves the socket of a handshake that failed to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FIRST_PAUSE_S", 0.05)


class Keys:
    """Keys of both sides on the disk; `renew` replaces all of them, under the same names."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self._directory, self._host = directory, host
        directory.mkdir()
        self.renew()

    def __getitem__(self, name: str) -> Path:
        return self._directory / name

    def renew(self, password: str = "first") -> None:
        authority = trustme.CA()
        server, client = authority.issue_cert(self._host), authority.issue_cert("agent@example.org")
        authority.cert_pem.write_to_path(self["ca.pem"])
        server.private_key_and_cert_chain_pem.write_to_path(self["server.pem"])
        client.private_key_pem.write_to_path(self["client.key"])
        client.cert_chain_pems[0].write_to_path(self["client.pem"])
        self["password"].write_text(f"{password}\n")
        require(shutil.which("mosquitto_passwd") is not None, "mosquitto_passwd (Debian package mosquitto)")
        subprocess.run(["mosquitto_passwd", "-c", "-b", self["users"], "agent", password], check=True)

    def lines(self, port: int) -> list[str]:
        return [
            f"listener {port} 127.0.0.1", "allow_anonymous false", f"password_file {self['users']}",
            f"cafile {self['ca.pem']}", f"certfile {self['server.pem']}", f"keyfile {self['server.pem']}",
            "require_certificate true",
        ]  # fmt: skip

    def broker(self, port: int, ca: Path | None = None) -> Broker:
        return Broker(
            "127.0.0.1",
            port,
            tls=True,
            client_id="one",
            username="agent",
            password="first",
            password_file=self["password"],
            ca_file=ca or self["ca.pem"],
            cert_file=self["client.pem"],
            key_file=self["client.key"],
        )


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys")


def test_new_certificates_keys_and_password_are_used_at_the_next_connect(tmp_path: Path, keys: Keys) -> None:
    """All of them are exchanged on a device that nobody restarts."""
    port = free_port()
    with mosquitto(tmp_path / "mosquitto", keys.lines(port), port) as server, Peer(keys.broker(port)) as peer:
        peer.wait_up()
        keys.renew("second")
        assert peer.downs == [], "a connection that stands is left alone"
        server.stop()
        server.start()
        peer.wait_up(2)


def test_while_files_are_being_exchanged_it_tries_again(tmp_path: Path, keys: Keys) -> None:
    port = free_port()
    with mosquitto(tmp_path / "mosquitto", keys.lines(port), port):
        whole = keys["client.pem"].read_text()
        keys["client.pem"].write_text(whole[: len(whole) // 2])
        with Peer(keys.broker(port)) as peer:
            wait_until(lambda: peer.downs, what="a failure")
            named = f"cert '{keys['client.pem']}' with key '{keys['client.key']}' cannot be used: "
            assert named in peer.downs[0]
            keys["client.pem"].write_text(whole)
            peer.wait_up()


@pytest.mark.parametrize("flaw", ["authority", "host"])
def test_a_broker_that_cannot_be_verified_gets_nothing(tmp_path: Path, flaw: str) -> None:
    keys = Keys(tmp_path / "keys", "127.0.0.1" if flaw == "authority" else "127.0.0.2")
    other, port = Keys(tmp_path / "other"), free_port()
    ca = other["ca.pem"] if flaw == "authority" else None
    with mosquitto(tmp_path / "mosquitto", keys.lines(port), port), Peer(keys.broker(port, ca)) as peer:
        wait_until(lambda: len(peer.downs) >= 2, what="two failures")
        assert "CERTIFICATE_VERIFY_FAILED" in peer.downs[0]
        assert peer.ups == 0


def test_tls_before_1_2_is_refused(keys: Keys) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(keys["server.pem"])
    refusals: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection, pytest.raises(ssl.SSLError) as refused:
                context.wrap_socket(connection, server_side=True)
            refusals.append(refused.value.reason)

        thread = threading.Thread(target=serve)
        thread.start()
        with Peer(keys.broker(server.getsockname()[1])) as peer:
            thread.join(10)
            wait_until(lambda: peer.downs, what="the refusal")
            assert peer.ups == 0
    assert refusals == ["UNSUPPORTED_PROTOCOL"]
