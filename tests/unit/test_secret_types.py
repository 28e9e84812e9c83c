"""Secrets show neither in a repr nor in an error text, and in no log line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.faces.ditto.inbox import InboxCommand
from agent.jobs.requests.backup import BackupRequest
from agent.jobs.requests.raw import read_raw
from agent.journal.commands import CommandId
from agent.mqtt import envelope as ditto
from agent.mqtt.hono import parse_command_topic
from agent.mqtt.link import Broker, Delivery
from agent.settings.load import load
from agent.settings.sources import read_environment
from providers.address import parse_address
from providers.api import Limits
from providers.aws import S3
from providers.azure import AzureBlob
from providers.http_exchange import HttpRequest
from providers.https import Https
from tests.support.requests import read

MARK = "marked-secret-3f7a"
PAYLOAD = (
    '{"topic":"edge/device/things/live/messages/backup","path":"/features/F/inbox/messages/backup",'
    f'"value":{{"options":{{"https.header.Authorization":"{MARK}"}}}}}}'
).encode()
ENVELOPE = ditto.parse(PAYLOAD)


def command() -> object:
    topic = parse_command_topic("command//edge:device/req//backup")
    assert topic
    return InboxCommand(topic, ENVELOPE, "backup", CommandId("", "", "backup", ""), PAYLOAD, "c", 0)


HOLDERS: dict[str, Callable[[], object]] = {
    "the message": lambda: Delivery("t", PAYLOAD, retain=False, dup=False, ack=lambda: None),
    "the envelope": lambda: ENVELOPE,
    "the command": command,
    "what it gives": lambda: read_raw("backup", ENVELOPE.value),
    "its request": lambda: read(BackupRequest, ENVELOPE.value),
    "the settings": lambda: load({"password": MARK, "transfer.proxy": f"http://u:{MARK}@proxy"}, None, {}),
    "a layer of settings": lambda: read_environment({"EDGE_BACKUP_PASSWORD": MARK}),
    "the broker": lambda: Broker("h", 1, tls=False, client_id="c", username="u", password=MARK),
    "an address": lambda: parse_address(f"https://u:{MARK}@host/path?sig={MARK}"),
    "a request": lambda: HttpRequest("PUT", parse_address("https://host/"), {"Authorization": MARK}),
    "the limits": lambda: Limits(proxy=f"http://u:{MARK}@proxy", ca_file=Path("ca")),
    "HTTPS": lambda: Https({"https.url": f"https://h/?s={MARK}", "https.header.X": MARK}, Limits()),
    "S3": lambda: S3(
        {"aws.region": "r", "aws.access.key.id": MARK, "aws.secret.access.key": MARK, "aws.s3.bucket": "bbb"},
        Limits(),
    ),
    "Azure": lambda: AzureBlob(
        {
            "azure.storage.endpoint": "https://a.example",
            "azure.shared.access.signature": f"sig={MARK}",
            "azure.blob.container": "ccc",
        },
        Limits(),
    ),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_it_does_not_show_what_it_holds(name: str) -> None:
    holder = HOLDERS[name]()
    assert MARK not in f"{holder!r} {holder!s} {[holder]}"
