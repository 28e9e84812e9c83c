"""The command line of `edge-backup send`, read into an order."""

import argparse
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agent.mqtt.hono import Identity
from agent.send.grammar import make_parser, operation_first
from agent.send.options import UnusableOption, gathered, read_secret, read_secret_file

if TYPE_CHECKING:
    from agent.mqtt.link import Broker
    from agent.settings.parsing import BrokerAddress


@dataclass(frozen=True, slots=True)
class Order:
    """A message to send, its receiver, and how the exchange is followed."""

    broker: "Broker"
    identity: Identity
    feature_id: str
    operation: str
    correlation_id: str
    """Empty for operations that have none."""
    value: Mapping[str, Any] = field(repr=False)
    destination: Mapping[str, str] | None = field(repr=False)
    """Options of the `start` that answers an upload request; None leaves the archive where it is."""
    request_id: str
    timeout_s: float
    json: bool
    secrets: frozenset[str] = field(repr=False)
    """Secret texts, which no line shows."""


def parse_arguments(argv: list[str]) -> Order:
    """Return the order. Exits with status 2 on wrong usage, also when a secret cannot be read."""
    parser, operations = make_parser()
    parsed, unknown = parser.parse_known_args(operation_first(argv))
    try:
        if unknown:
            # argparse would repeat them whole, and a secret may be among them.
            names = (argument.partition("=")[0] for argument in unknown)
            raise UnusableOption(f"unrecognized arguments: {' '.join(names)}")
        return _order(parsed)
    except UnusableOption as error:
        operations[parsed.operation].error(str(error))


def _order(parsed: argparse.Namespace) -> Order:
    kept = [(secret.key, read_secret(secret)) for secret in parsed.secret]
    answer_kept = [(secret.key, read_secret(secret)) for secret in parsed.answer_secret]
    directory = [("backup.dir", parsed.dir)] if parsed.dir else []
    options = gathered(parsed.option, directory, kept)
    destination = gathered(parsed.answer, answer_kept) or None
    if parsed.operation == "backup" and destination and names_destination(options):
        raise UnusableOption("the backup has a destination already: that or --answer, not both")
    fields = {"correlationID": parsed.correlation_id, **parsed.fields(parsed)}
    value = {key: text for key, text in fields.items() if text}
    return Order(
        broker=_broker(parsed),
        identity=parsed.device,
        feature_id=parsed.feature,
        operation=parsed.operation,
        correlation_id=parsed.correlation_id,
        value=value | ({"options": options} if options else {}),
        destination=options if parsed.operation == "start" else destination,
        request_id=parsed.request_id,
        timeout_s=parsed.timeout,
        json=parsed.json,
        secrets=frozenset(secret for _, secret in (*kept, *answer_kept)),
    )


def names_destination(options: Mapping[str, str]) -> bool:
    """Return True when a backup with these options stores its archive itself, without an upload request."""
    return any(options.get(key) for key in ("storage.provider", "https.url", "backup.store"))


def _broker(parsed: argparse.Namespace) -> "Broker":
    from agent.mqtt.link import Broker

    address: BrokerAddress = parsed.broker
    if not address.tls and (parsed.ca or parsed.cert or parsed.key):
        raise UnusableOption("--ca, --cert and --key are for a broker with TLS: --broker ssl://...")
    if bool(parsed.cert) != bool(parsed.key):
        raise UnusableOption("--cert and --key go together")
    if parsed.password_file and not parsed.username:
        raise UnusableOption("--password-file needs --username")
    return Broker(
        address.host,
        address.port,
        tls=address.tls,
        # Of its own for every call: a broker ends the older of two connections with the same one.
        client_id=f"edge-backup-send-{secrets.token_hex(6)}",
        username=parsed.username,
        password=read_secret_file(parsed.password_file) if parsed.password_file else "",
        ca_file=parsed.ca,
        cert_file=parsed.cert,
        key_file=parsed.key,
        clean_session=True,
    )
