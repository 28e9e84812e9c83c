"""The client of one connection to a broker: paho's, with a better time-out."""

import socket
import time
from collections.abc import Callable
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion


class BrokerClient(Client):
    """Acknowledges by hand, never connects again by itself, and knows when something was last read: the
    library notices a silent broker only after two keep-alive periods."""

    def __init__(self, client_id: str, clean_session: bool, keep_alive_s: int) -> None:
        super().__init__(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=clean_session,
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self.keep_alive_s = keep_alive_s
        self._heard_s = time.monotonic()
        self.on_socket_open = _send_at_once

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        result = super().loop_read(max_packets)
        self._heard_s = time.monotonic()
        return result

    def serve(self, came_round: Callable[[], None]) -> bool:
        """Run until the connection ends; return False when the broker fell silent.

        `came_round` is called after every round, of which there are a few in each keep-alive period.
        """
        while (left_s := self._heard_s + 1.5 * self.keep_alive_s - time.monotonic()) > 0:
            # Wakes for traffic, and often enough to send the ping long before the broker gives us up.
            if self.loop(min(left_s, self.keep_alive_s / 3)) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return True
            came_round()
        if connection := self.socket():
            connection.close()
        return False


def _send_at_once(_client: Client, _data: object, connection: Any) -> None:
    """Send small packets at once: the kernel would delay an answer by 40 ms after an unconfirmed packet."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
