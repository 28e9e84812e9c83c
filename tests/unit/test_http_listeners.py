"""Listening sockets: places for connections and streams, TLS, and sockets that systemd hands over."""

import gc
import os
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trustme

from agent.faces.http.connection import Connection
from agent.faces.http.message import Peer, Request, Response
from agent.faces.http.places import MAX_STREAMS, Places
from agent.faces.http.routes import Route
from agent.faces.http.sockets import is_loopback, passed_sockets, tcp_socket, unix_socket
from agent.faces.http.tls import ServerTls
from agent.settings.group_defaults import HttpSettings
from agent.settings.http import ListenAddress
from tests.support.http_raw import RawClient, answers, listening
from tests.support.waiting import wait_until

GET = b"GET /echo HTTP/1.1\r\nHost: localhost\r\n\r\n"
STREAM = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"


def echo(request: Request) -> Response:
    return Response(200, {}, f"{request.peer.address} {request.peer.subject} {request.peer.tls}".encode())


ECHO = Route("GET", "/echo", echo)


class Streams:
    """Streams that begin and never end, unless the client goes or the test is over."""

    def __init__(self) -> None:
        self.over = threading.Event()

    def answer(self, _request: Request) -> Response:
        def body() -> Iterator[bytes]:
            yield b"begun"
            self.over.wait(60)

        return Response(200, {}, body(), is_events=True)


@pytest.fixture
def streams() -> Iterator[Streams]:
    streams = Streams()
    yield streams
    streams.over.set()


def follow(client: RawClient) -> None:
    """Ask for a stream, and wait for its beginning."""
    client.send(STREAM)
    received = b""
    while not received.endswith(b"begun\r\n"):
        piece = client.sock.recv(1000)
        assert piece, received
        received += piece


def test_an_idle_connection_makes_room() -> None:
    with listening(answers(ECHO), places=3) as address, ExitStack() as clients:
        for _ in range(4):
            assert clients.enter_context(RawClient(address)).ask(GET).status == 200


def test_of_idle_connections_the_one_that_waited_longest_makes_room() -> None:
    """A connection at work stays, however long it takes."""
    places = Places(4)
    with ExitStack() as sockets:
        ends = [[sockets.enter_context(end) for end in socket.socketpair()] for _ in range(5)]
        for (served, _), idle_since_s in zip(ends, (None, 2.0, 1.0, 3.0), strict=False):
            connection = Connection(served, Peer(""), answers(ECHO), places)
            connection.idle_since_s = idle_since_s
            assert places.enter(served)
            places.serving(served, connection)
        waiting = threading.Thread(target=places.enter, args=(ends[4][0],))
        waiting.start()
        assert ends[2][1].recv(1) == b""
        places.leave(ends[2][0])
        waiting.join(30)
        assert not waiting.is_alive()
        for number in (0, 1, 3):
            ends[number][0].sendall(b"stays")
            assert ends[number][1].recv(5) == b"stays"


def test_slow_clients_take_all_places_and_give_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has begun a request is not idle: it has its time, and no more."""
    monkeypatch.setattr("agent.faces.http.connection.REQUEST_S", 0.5)
    with listening(answers(ECHO), places=2) as address, ExitStack() as clients:
        slow = [clients.enter_context(RawClient(address)) for _ in range(2)]
        for client in slow:
            client.send(GET[:-2] + b"Content-Length: 1\r\nExpect: 100-continue\r\n\r\n")
            assert client.sock.recv(12, socket.MSG_PEEK) == b"HTTP/1.1 100"  # it counts as begun
        with RawClient(address) as patient:
            assert patient.ask(GET).status == 200
        assert [client.answer().status for client in slow] == [408, 408]


def test_of_too_many_streams_the_last_is_refused_and_other_requests_are_served(streams: Streams) -> None:
    served = listening(answers(ECHO, Route("GET", "/events", streams.answer)))
    with served as address, ExitStack() as clients:
        followers = [clients.enter_context(RawClient(address)) for _ in range(MAX_STREAMS)]
        for client in followers:
            follow(client)
        with RawClient(address) as client:
            refused = client.ask(STREAM)
            assert (refused.status, refused.headers["retry-after"]) == (503, "30")
            assert client.ask(GET).status == 200
        followers.pop().__exit__()
        with RawClient(address) as client:
            wait_until(lambda: client.ask(GET).status == 200, what="an answer")
            follow(client)  # the one that left has made room, although its thread still waits


def test_closing_ends_all_connections(streams: Streams) -> None:
    with ExitStack() as clients:
        with listening(answers(ECHO, Route("GET", "/events", streams.answer))) as address:
            follower, idle = (clients.enter_context(RawClient(address)) for _ in range(2))
            follow(follower)
            assert idle.ask(GET).status == 200
        assert follower.sock.recv(10) == b""
        assert idle.is_closed()
        with pytest.raises(ConnectionRefusedError):
            RawClient(address)


class Keys:
    """Files on the disk: a certificate of the server, and one of a client."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.renew()

    def renew(self) -> None:
        self.authority = trustme.CA()
        server = self.authority.issue_cert("localhost", "127.0.0.1")
        client = self.authority.issue_cert("technician@example.org", common_name="technician")
        self.authority.cert_pem.write_to_path(self["ca"])
        server.private_key_and_cert_chain_pem.write_to_path(self["server"])
        client.private_key_and_cert_chain_pem.write_to_path(self["client"])

    def __getitem__(self, name: str) -> str:
        return str(self.directory / f"{name}.pem")

    def settings(self, *, client_ca: bool = False) -> HttpSettings:
        server, ca = Path(self["server"]), Path(self["ca"])
        return HttpSettings(cert=server, key=server, client_ca=ca if client_ca else None)

    def asked(self, address: tuple[str, int], *, client: str = "", newest: int = 0) -> str:
        """Ask over TLS, and return the answer's body."""
        context = ssl.create_default_context(cafile=self["ca"])
        if client:
            context.load_cert_chain(client)
        if newest:
            context.maximum_version = ssl.TLSVersion(newest)
        with (
            socket.create_connection(address, 20) as sock,
            context.wrap_socket(sock, server_hostname="localhost") as encrypted,
        ):
            encrypted.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            received = b""
            while piece := encrypted.recv(4096):
                received += piece
        return received.partition(b"\r\n\r\n")[2].decode()


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def test_with_a_certificate_requests_come_over_tls_alone(keys: Keys) -> None:
    with listening(answers(ECHO), tls=ServerTls(keys.settings())) as address:
        assert keys.asked(address) == "127.0.0.1  True"
        with RawClient(address) as plain:
            refused = plain.ask(GET)
            assert (refused.status, refused.headers["connection"]) == (400, "close")
            assert "https://" in refused.json["detail"]
            assert plain.is_closed()


def test_a_client_that_resets_its_connection_before_tls_begins_leaves_no_socket(keys: Keys) -> None:
    """`wrap_socket` would not close it."""
    with listening(answers(ECHO), places=1, tls=ServerTls(keys.settings())) as address:
        with RawClient(address) as first:
            first.send(b"\x16\x03\x01")
            with RawClient(address) as second:
                second.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert keys.asked(address) == "127.0.0.1  True"
    gc.collect()


@pytest.mark.filterwarnings("ignore:.*TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_tls_before_1_2_is_refused(keys: Keys) -> None:
    with listening(answers(ECHO), tls=ServerTls(keys.settings())) as address:
        assert keys.asked(address, newest=ssl.TLSVersion.TLSv1_2) == "127.0.0.1  True"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            keys.asked(address, newest=ssl.TLSVersion.TLSv1_1)


def test_a_client_certificate_names_its_client_and_without_one_there_is_no_answer(keys: Keys) -> None:
    with listening(answers(ECHO), tls=ServerTls(keys.settings(client_ca=True))) as address:
        assert keys.asked(address, client=keys["client"]) == "127.0.0.1 technician True"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            keys.asked(address)
        trustme.CA().issue_cert("other@example.org").private_key_and_cert_chain_pem.write_to_path(
            keys["other"]
        )
        with pytest.raises((ssl.SSLError, ConnectionError)):
            keys.asked(address, client=keys["other"])


def test_a_renewed_certificate_is_taken_for_the_next_connection(keys: Keys) -> None:
    with listening(answers(ECHO), tls=ServerTls(keys.settings())) as address:
        keys.asked(address)
        keys.renew()
        assert keys.asked(address) == "127.0.0.1  True"  # verified by the new authority
        Path(keys["server"]).write_text("half a certificate")
        assert keys.asked(address) == "127.0.0.1  True"


def test_sessions_of_tls_clients_are_not_kept_for_ever(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL keeps thousands of those that know no tickets."""
    monkeypatch.setattr("agent.faces.http.tls.MAX_USES", 3)
    tls = ServerTls(keys.settings())
    first = tls.context()
    assert [tls.context() is first for _ in range(4)] == [True, True, False, False]


def test_a_client_that_does_not_finish_its_handshake_is_dropped(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.faces.http.listeners.HANDSHAKE_S", 0.2)
    with listening(answers(ECHO), tls=ServerTls(keys.settings())) as address, RawClient(address) as client:
        client.send(b"\x16\x03\x01\x02\x00\x01")
        assert client.is_closed()


def test_one_socket_listens_for_both_kinds_of_addresses() -> None:
    with closing(tcp_socket(ListenAddress("::", 0))) as listening_socket:
        port = listening_socket.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), 20).close()
        assert not is_loopback(listening_socket)


def test_an_address_that_the_device_gets_later_can_be_listened_on() -> None:
    with closing(tcp_socket(ListenAddress("192.0.2.1", 0))) as listening_socket:
        assert not is_loopback(listening_socket)


def test_the_unix_socket_is_private_from_its_first_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    monkeypatch.setattr(os, "chown", lambda path, *_: modes.append(stat.S_IMODE(os.stat(path).st_mode)))
    with closing(unix_socket(tmp_path / "socket", "daemon")):
        assert modes == [0o600]
        assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o660


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    """`http.socket` may name a file of somebody else by mistake."""
    path = tmp_path / "app.db"
    path.write_text("data")
    with pytest.raises(FileExistsError):
        unix_socket(path)
    assert path.read_text() == "data"


def test_a_socket_on_which_another_program_listens_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with closing(unix_socket(path)):
        with pytest.raises(OSError, match="another program"):
            unix_socket(path)
        with RawClient(str(path)):
            pass


def test_the_socket_of_an_agent_that_was_killed_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with closing(unix_socket(path)):
        pass
    assert path.exists()
    with closing(unix_socket(path)), RawClient(str(path)):
        pass


PASSED = """
import os, sys
from agent.faces.http.sockets import passed_sockets
os.dup2(int(sys.argv[3]), 3)
os.environ["LISTEN_PID"] = str(os.getpid() + int(sys.argv[1]))
os.environ |= {"LISTEN_FDS": sys.argv[2], "LISTEN_FDNAMES": "http"}
sockets = passed_sockets(os.environ)
print(*(each.family.name for each in sockets), *(os.get_inheritable(each.fileno()) for each in sockets))
assert not [name for name in os.environ if name.startswith("LISTEN_")]
"""


@pytest.mark.parametrize(
    ("pid_off", "count", "printed"),
    [("0", "1", "AF_UNIX False"), ("1", "1", ""), ("0", "0", ""), ("0", "many", "")],
)
def test_sockets_of_systemd_are_taken_once_and_not_passed_on(
    tmp_path: Path, pid_off: str, count: str, printed: str
) -> None:
    """A program that a job starts must not listen for the agent."""
    with closing(unix_socket(tmp_path / "socket")) as passed:
        number = passed.fileno()
        program = [sys.executable, "-c", PASSED, pid_off, count, str(number)]
        result = subprocess.run(program, check=False, pass_fds=[number], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, printed), result.stderr


def test_without_systemd_there_is_none() -> None:
    assert passed_sockets({}) == []


def test_a_local_peer_is_known_by_its_user() -> None:
    assert Peer("", user_id=0).is_local
    assert not Peer("127.0.0.1").is_local
