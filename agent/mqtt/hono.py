"""The topics of Eclipse Hono's MQTT adapter on a gateway's local broker. Pure.

Source: Eclipse Hono, MQTT adapter user guide, "Command & Control", and the file backup API's examples.
A command arrives on `command/<tenant>/<device>/req/<request-id>/<subject>`; tenant and device are empty
for the gateway itself, the request id is empty for a command that expects no answer through Hono.
"""

import json
from dataclasses import dataclass

from agent.base.text import valid_device_id, valid_level

COMMANDS = "command//+/req/#"
SHORT_COMMANDS = "c//+/q/#"
EVENTS = "e"
IDENTITY_REQUEST = "edge/thing/request"
IDENTITY_RESPONSE = "edge/thing/response"


@dataclass(frozen=True, slots=True)
class CommandTopic:
    """The topic of a command; the topic of its answer repeats the fields."""

    device: str
    request_id: str
    subject: str
    short: bool = False

    @property
    def one_way(self) -> bool:
        """Return True without a request id: Hono then expects no answer."""
        return not self.request_id

    def concerns(self, device_id: str) -> bool:
        """Return True when the device level is empty (the gateway), the device, or a virtual device of it."""
        return self.device in ("", device_id) or self.device.startswith(device_id + ":")

    def reply_topic(self, status: int) -> str:
        """Return the topic of the answer: with the status, or the subject when there is no request id."""
        root, kind = ("c", "s") if self.short else ("command", "res")
        return f"{root}//{self.device}/{kind}/{self.request_id}/{status if self.request_id else self.subject}"


def parse_command_topic(topic: str) -> CommandTopic | None:
    """Parse the topic of a command, in its long or short form; return None for any other topic."""
    levels = topic.split("/", 5)
    if len(levels) != 6 or not levels[5]:
        return None
    root, tenant, device, kind, request_id, subject = levels
    if tenant or (root, kind) not in (("command", "req"), ("c", "q")):
        return None
    return CommandTopic(device, request_id, subject, short=root == "c")


def is_answer(topic: str) -> bool:
    """Return True for the topic of an answer to a command."""
    levels = topic.split("/", 4)
    return len(levels) == 5 and levels[:2] == ["command", ""] and levels[3] == "res"


@dataclass(frozen=True, slots=True)
class Identity:
    """The device's identity, from the gateway's connector. `device_id` is `<namespace>:<name>`."""

    device_id: str
    tenant_id: str = ""

    @property
    def thing(self) -> str:
        """Return the first two levels of a Ditto topic: `<namespace>/<name>`."""
        namespace, _, name = self.device_id.partition(":")
        return f"{namespace}/{name}"


def parse_identity(payload: bytes) -> Identity | None:
    """Parse the answer to the request for the identity; return None when the payload is no identity."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    device_id, tenant_id = value.get("deviceId"), value.get("tenantId") or ""
    if not isinstance(device_id, str) or not isinstance(tenant_id, str):
        return None
    if not valid_device_id(device_id) or (tenant_id and not valid_level(tenant_id)):
        return None
    return Identity(device_id, tenant_id)
