"""The connection to the broker, over a real mosquitto: it comes back, whatever happens to it."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.mqtt import backlog as backlog_module
from agent.mqtt import link as link_module
from agent.mqtt.link import Broker, Link, LinkEvents
from agent.service import Service
from agent.settings.load import load
from providers.testing.faultproxy import FaultProxy
from tests.support.mosquitto import Mosquitto, mosquitto
from tests.support.mqtt_peer import Peer
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "FIRST_PAUSE_S", 0.05)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "mosquitto") as running:
        yield running


def _hold(release: threading.Event) -> None:
    release.wait(20)


def address(server: Mosquitto, client_id: str = "one", **more: object) -> Broker:
    return replace(Broker("127.0.0.1", server.port, tls=False, client_id=client_id), **more)  # type: ignore[arg-type]


def test_what_is_published_arrives_and_its_number_is_told(server: Mosquitto) -> None:
    with Peer(address(server)) as peer:
        peer.wait_up()
        peer.publish(b"hello")
        (delivery,) = peer.wait_for(b"hello")
        assert (delivery.topic, delivery.retain, delivery.dup) == ("t/x", False, False)
        wait_until(lambda: peer.sent, what="the acknowledgement")


def test_what_is_sent_is_not_held_back_for_the_answer_to_what_was_sent_before(server: Mosquitto) -> None:
    """With Nagle's algorithm, each message that follows another at once is 40 ms late."""
    with Peer(address(server)) as peer:
        peer.wait_up()
        assert peer.link.client is not None
        connection = peer.link.client.socket()
        assert isinstance(connection, socket.socket)
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_it_connects_again_after_the_broker_was_restarted(server: Mosquitto) -> None:
    """Kanto's agent goes deaf for ever; here the next message after the restart arrives."""
    with Peer(address(server)) as peer:
        peer.wait_up()
        server.stop()
        wait_until(lambda: peer.downs, what="the loss")
        server.start()
        peer.wait_up(2)
        peer.publish(b"again")
        peer.wait_for(b"again")


def test_it_subscribes_again_when_the_broker_forgot_its_session(tmp_path: Path) -> None:
    """A broker without persistence knows nothing after a restart."""
    server = Mosquitto(tmp_path, persistent=False)
    server.start()
    try:
        with Peer(address(server)) as peer:
            peer.wait_up()
            server.stop()
            server.start()
            peer.wait_up(2)
            peer.publish(b"again")
            peer.wait_for(b"again")
    finally:
        server.stop()


def test_a_broker_that_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    server = Mosquitto(tmp_path)
    with Peer(address(server)) as peer:
        wait_until(lambda: len(peer.downs) >= 2, what="two failed attempts")
        assert peer.link.publish("t/x", b"nobody") is None
        server.start()
        peer.wait_up()
    server.stop()


def test_it_survives_an_exception_in_a_posted_action(server: Mosquitto) -> None:
    """A bug in one message's handling costs that message, not the connection."""

    def fail() -> None:
        raise KeyError("bug")

    with Peer(address(server)) as peer:
        peer.wait_up()
        peer.mailbox.post(fail)
        peer.publish(b"after")
        peer.wait_for(b"after")
        assert peer.link.alive


def test_what_was_not_acknowledged_comes_again(server: Mosquitto) -> None:
    """Marked as a repetition: a command that a crash interrupted before it was in the journal."""
    with Peer(address(server), acknowledges=False) as peer:
        peer.wait_up()
        peer.publish(b"1")
        peer.wait_for(b"1")
    with Peer(address(server)) as after:
        (delivery,) = after.wait_for(b"1")
        assert delivery.dup
    with Peer(address(server)) as last:
        last.wait_up()
        last.publish(b"2")
        last.wait_for(b"2")
        assert [delivery.payload for delivery in last.received] == [b"2"]


def test_an_acknowledgement_after_the_connection_was_lost_does_no_harm(server: Mosquitto) -> None:
    with Peer(address(server), acknowledges=False) as peer:
        peer.wait_up()
        peer.publish(b"1")
        (delivery,) = peer.wait_for(b"1")
        server.stop()
        wait_until(lambda: peer.downs, what="the loss")
        delivery.ack()
        server.start()
        peer.wait_for(b"1", times=2)


def test_what_came_while_it_was_away_is_delivered(server: Mosquitto) -> None:
    """MQTT 3.1.1 without a clean session: a command waits for the agent."""
    with Peer(address(server)) as peer:
        peer.wait_up()
        peer.publish(b"subscribed")
        peer.wait_for(b"subscribed")
    with Peer(address(server, "other"), topics=("none",)) as other:
        other.wait_up()
        other.publish(b"meanwhile")
        wait_until(lambda: other.sent, what="the acknowledgement")
    with Peer(address(server)) as peer:
        peer.wait_for(b"meanwhile")


def test_a_refused_subscription_is_told() -> None:
    """Otherwise the agent would be deaf without knowing. (mosquitto's access rules never refuse one.)"""
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = Broker("127.0.0.1", server.getsockname()[1], tls=False, client_id="one")
        with Peer(broker) as peer:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x20\x02\x00\x00")  # CONNACK, MQTT 3.1.1 section 3.2
                subscribe = connection.recv(1000)
                connection.sendall(b"\x90\x03" + subscribe[2:4] + b"\x80")  # SUBACK, section 3.9
                wait_until(lambda: peer.refusals, what="the refusal")


def test_a_wrong_password_is_told_and_tried_again(tmp_path: Path) -> None:
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", "allow_anonymous false"]
    with mosquitto(tmp_path / "mosquitto", lines, port) as server, Peer(address(server)) as peer:
        wait_until(lambda: len(peer.downs) >= 2, what="two refusals")
        assert peer.downs[0].startswith("refused: ")
        assert peer.ups == 0


def test_a_topic_that_is_no_text_does_not_end_the_connection(server: Mosquitto) -> None:
    """MQTT 3.1.1 section 1.5.3 forbids it; whoever sends it all the same must not silence the agent."""
    with Peer(address(server)) as peer:
        peer.wait_up()
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            raw.sendall(b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03raw")
            raw.recv(4)
            raw.sendall(b"\x30\x07\x00\x04t/\xff\xfe!")
        peer.publish(b"after")
        peer.wait_for(b"after")


def test_something_that_is_no_broker_is_tried_again() -> None:
    """Another program on the port: it talks, but not MQTT."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        broker = Broker("127.0.0.1", server.getsockname()[1], tls=False, client_id="one")
        with Peer(broker) as peer:
            for _ in range(2):
                connection, _ = server.accept()
                connection.sendall(b"SSH-2.0-OpenSSH\r\n" * 10)
                connection.close()
            wait_until(lambda: len(peer.downs) >= 2, what="two failures")
            assert peer.link.alive


def test_a_broker_that_falls_silent_is_noticed_in_one_and_a_half_keep_alive_periods(
    server: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection whose other end has vanished gives no error, for hours. Then it is made again."""
    monkeypatch.setattr(link_module, "KEEP_ALIVE_S", 2)
    with FaultProxy(("127.0.0.1", server.port)) as proxy:
        broker = Broker("127.0.0.1", proxy.address[1], tls=False, client_id="one")
        with Peer(broker) as peer:
            peer.wait_up()
            peer.publish(b"before")
            peer.wait_for(b"before")
            proxy.black_hole = True
            silent_s = time.monotonic()
            wait_until(lambda: peer.downs, what="the loss")
            assert time.monotonic() - silent_s < 1.5 * 2 + 5, "noticed late"
            assert peer.downs[0] == "the broker is silent"
            proxy.black_hole = False
            peer.wait_up(2)
            peer.publish(b"after")
            peer.wait_for(b"after")


def test_a_quiet_connection_stands(server: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings are sent in time and their answers count."""
    monkeypatch.setattr(link_module, "KEEP_ALIVE_S", 1)
    with Peer(address(server)) as peer:
        peer.wait_up()

        def pings() -> int:
            return (server.work / "mosquitto.log").read_text().count("Sending PINGRESP to one")

        wait_until(lambda: pings() >= 3, what="three pings")
        assert peer.downs == []


def test_two_clients_with_the_same_id_do_not_fight(
    server: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MQTT 3.1.1 section 3.1.4: the newer connection ends the older. Each waits longer every time."""
    monkeypatch.setattr(link_module, "LONGEST_PAUSE_AFTER_SHORT_S", 1.0)
    with Peer(address(server)) as peer:
        peer.wait_up()
        with Peer(address(server)) as twin:
            wait_until(lambda: peer.ups + twin.ups >= 10, what="a quarrel")
            begun_s, ups = time.monotonic(), peer.ups + twin.ups
            wait_until(lambda: peer.ups + twin.ups >= ups + 4, what="more of it")
            assert time.monotonic() - begun_s > 0.9, "they do not wait"
        peer.publish(b"alone again")
        peer.wait_for(b"alone again")


def test_a_message_that_is_too_large_is_acknowledged_and_dropped(server: Mosquitto) -> None:
    with Peer(address(server)) as peer:
        peer.wait_up()
        peer.publish(b"x" * (link_module.MAX_PAYLOAD_BYTES + 1))
        peer.publish(b"x" * link_module.MAX_PAYLOAD_BYTES)
        peer.publish(b"after")
        peer.wait_for(b"after")
        assert len(peer.received) == 2
    with Peer(address(server)) as again:
        again.wait_up()
        again.publish(b"again")
        again.wait_for(b"again")
        assert len(again.received) == 1, "it was acknowledged, so it does not come again"


def test_messages_that_come_faster_than_they_are_taken_do_not_fill_memory(
    server: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With QoS 1 they wait with the broker, and all arrive. Of QoS 0 a broker sends as much as the
    connection takes, and loses commands too when that is not enough: the excess is dropped here."""
    monkeypatch.setattr(backlog_module, "MAX_WAITING_BYTES", 10_000)
    release = threading.Event()
    with Peer(address(server)) as peer, Peer(address(server, "flood"), ("none",)) as flood:
        peer.wait_up()
        flood.wait_up()
        peer.mailbox.post(partial(_hold, release))
        for number in range(200):
            flood.publish(b"%d" % number)
        wait_until(lambda: len(flood.sent) == 200, what="the flood")
        backlog = peer.link.backlog
        wait_until(lambda: backlog.waiting_bytes >= 10_000, what="a full backlog")
        assert flood.link.client
        for _ in range(200):
            flood.link.client.publish("t/x", b"QoS 0", qos=0)
        release.set()
        peer.wait_for(b"199")
        flood.publish(b"after")
        peer.wait_for(b"after")
        several = [delivery.payload for delivery in peer.received if delivery.payload != b"QoS 0"]
        assert several == [*(b"%d" % number for number in range(200)), b"after"]
        assert backlog.waiting_bytes == 0


@pytest.mark.parametrize("connected", [True, False])
def test_stop_ends_the_thread(server: Mosquitto, connected: bool) -> None:
    if not connected:
        server.stop()
    with Peer(address(server)) as peer:
        wait_until(lambda: peer.ups or peer.downs, what="an attempt")
    assert not peer.link.alive


def test_a_password_is_not_in_the_repr(server: Mosquitto) -> None:
    assert "hunter2" not in repr(address(server, username="u", password="hunter2"))


def test_more_commands_than_the_broker_s_window_do_not_keep_the_identity_away(
    server: Mosquitto, tmp_path: Path
) -> None:
    """A resumed session delivers commands, which wait for the identity; mosquitto sends at most 20 of QoS 1
    before one is acknowledged, and must not count the identity among them."""
    commands = ("command//+/req/#",)
    with Peer(address(server, "device"), commands) as earlier:
        earlier.wait_up()
        earlier.publish(b"subscribed", "command//edge:device/req/0/x")
        earlier.wait_for(b"subscribed")
    with Peer(address(server, "connector"), ("edge/thing/request",)) as connector:
        connector.wait_up()
        for number in range(1, 31):
            connector.publish(b"not JSON", f"command//edge:device/req/{number}/x")
        wait_until(lambda: len(connector.sent) == 30, what="the acknowledgements")
        places = {"storage": str(tmp_path / "storage"), "logFile": "", "clientId": "device"}
        overrides = places | {"broker": f"tcp://127.0.0.1:{server.port}"}
        service = Service(load(overrides, None, {}).settings, lambda: None)
        service.session.begin()
        _take_until(service, lambda: len(service.session.early) == 20)
        connector.publish(b'{"deviceId":"edge:device","tenantId":"t"}', "edge/thing/response")
        _take_until(service, lambda: service.session.identity is not None)
        service.session.end()
        service.close()


def _take_until(service: Service, condition: Callable[[], bool]) -> None:
    """Be the service's main thread until then."""

    def look() -> bool:
        service.mailbox.post(lambda: None)  # so that the next line never waits
        action = service.mailbox.next()
        if action:
            action()
        return condition()

    wait_until(look, what="the service", timeout_s=10)


def test_a_thread_that_hangs_is_not_alive(server: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a callback, in the library, in a name server: whatever it is, the watchdog has to know."""
    hanging, release = threading.Event(), threading.Event()

    def post(_action: Callable[[], None]) -> None:
        hanging.set()
        release.wait(60)

    nothing = LinkEvents(lambda: None, print, print, print, lambda: None)
    link = Link(address(server), nothing, post)
    link.start()
    assert hanging.wait(10)
    assert link.alive, "it may take its time"
    monkeypatch.setattr(link_module, "SILENT_S", 0.2)
    wait_until(lambda: not link.alive, what="the silence to be noticed")
    release.set()
    server.stop()
    link.stop()
