"""The grammar of the command line of `edge-backup send`. argparse and nothing heavy, so help is quick."""

import argparse
import math
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from agent.base.durations import parse_duration
from agent.mqtt.hono import Identity, valid_device_id
from agent.send.options import SOURCES, option, secret_source

if TYPE_CHECKING:
    from agent.settings.kinds import BrokerAddress

_OPERATIONS = {
    "backup": "archive a directory of the device",
    "restore": "put an archive back",
    "start": "upload an archive that waits on the device",
    "trigger": "let the device offer all archives that wait",
    "cancel": "stop what runs under an id",
    "finalize": "carry out the restore whose preview waits",
    "discard": "remove the preview that waits",
    "confirm": "keep what a restore on trial has brought",
    "verify": "check that an archive is whole, changing nothing",
    "status": "ask what the device does right now",
    "history": "ask which jobs have ended, newest first",
    "describe": "ask for all that is known of one job",
    "info": "ask what a backup would save now",
    "activate": "switch periodic backups on",
    "deactivate": "switch periodic backups off",
}
_EPILOG = f"""\
A secret never stands on the command line: everybody on the machine can read it there. --secret names
where it is kept: {SOURCES} (one line for each).

examples:
  edge-backup send backup --broker tcp://gateway:1883 --device edge:device -o storage.provider=local
  edge-backup send backup --broker tcp://gateway:1883 --device edge:device \\
      --answer storage.provider=aws --answer aws.region=eu-central-1 --answer aws.s3.bucket=backups \\
      --answer aws.access.key.id=AKIA... --answer-secret aws.secret.access.key=@/run/secrets/aws

exit status: 0 done, 1 refused, failed or timed out, 2 wrong usage
"""


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser, and the one of each operation. What it leaves: see `agent.send.arguments`."""
    parser = argparse.ArgumentParser(
        prog="edge-backup send",
        description="Send a command to a device, as the cloud backend does, and follow it to its end.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    subparsers = parser.add_subparsers(dest="operation", metavar="operation", required=True)
    common = _common()
    operations = {
        name: subparsers.add_parser(name, help=text, description=text, parents=[common], allow_abbrev=False)
        for name, text in _OPERATIONS.items()
    }
    for operation in operations.values():
        operation.set_defaults(
            correlation_id="", option=[], secret=[], dir="", answer=[], answer_secret=[], fields=lambda _: {}
        )
    for name in ("backup", "restore", "trigger", "verify"):
        _add_id(operations[name], "of this operation; one is made when absent")
    _add_id(operations["start"], "under which the device offered the archive (X#1)", required=True)
    for name in ("cancel", "finalize", "discard", "confirm", "describe"):
        _add_id(operations[name], "of the job", required=True)
    for name in ("backup", "restore", "start", "trigger", "finalize", "verify", "history", "info"):
        _add_options(operations[name])
    for name in ("backup", "restore", "info"):
        operations[name].add_argument("--dir", help="directory on the device (option backup.dir)")
    for name in ("backup", "trigger"):
        _add_answer(operations[name])
    _add_fields(operations["cancel"], {"status-code": "statusCode", "message": "message"}, "to end with")
    _add_fields(operations["activate"], {"from": "from", "to": "to"}, "RFC 3339, or seconds since 1970")
    return parser, operations


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add = common.add_argument
    add(
        "--broker", required=True, type=_address, metavar="URL", help="tcp://host[:port] or ssl://host[:port]"
    )
    add("--device", required=True, type=_identity, metavar="NS:NAME", help="device id")
    add("--feature", default="BackupAndRestore", type=_level, help="feature id (default: %(default)s)")
    add("--request-id", default="", type=_level, metavar="ID", help="of the command's topic (default: none)")
    add("--timeout", default="1h", type=_seconds, help="such as 90s; the command then expires (default: 1h)")
    add("--json", action="store_true", help="one JSON object on stdout for each message of the device")
    add("--username", default="", help="at the broker")
    add("--password-file", metavar="FILE", help="file with the password")
    add("--ca", type=_file, metavar="FILE", help="authorities of the broker (PEM); default: the system's")
    add("--cert", type=_file, metavar="FILE", help="client certificate (PEM)")
    add("--key", type=_file, metavar="FILE", help="key of the client certificate (PEM)")
    return common


def _add_id(parser: argparse.ArgumentParser, which: str, *, required: bool = False) -> None:
    made = "" if required else str(uuid.uuid4())
    parser.add_argument(
        "--correlation-id", default=made, required=required, metavar="ID", help=f"correlation id {which}"
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--option", action="append", type=option, metavar="KEY=VALUE", help="option of the command")
    add("--secret", action="append", type=secret_source, metavar="KEY=SOURCE", help="secret option")


def _add_answer(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    request = "of the destination that answers the device's upload request"
    add("--answer", action="append", type=option, metavar="KEY=VALUE", help=f"option {request}")
    add(
        "--answer-secret",
        action="append",
        type=secret_source,
        metavar="KEY=SOURCE",
        help=f"secret option {request}",
    )


def _add_fields(parser: argparse.ArgumentParser, fields: Mapping[str, str], text: str) -> None:
    """Options whose texts are fields of the command's value: option name -> field name."""
    for name in fields:
        parser.add_argument(f"--{name}", default="", help=text)
    parser.set_defaults(fields=_reader(fields))


def _reader(fields: Mapping[str, str]) -> Callable[[argparse.Namespace], dict[str, str]]:
    return lambda parsed: {key: getattr(parsed, name.replace("-", "_")) for name, key in fields.items()}


# Types: a text becomes a value, or is refused with a sentence


def _address(text: str) -> "BrokerAddress":
    from agent.settings.kinds import parse_broker

    try:
        return parse_broker(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected tcp://host[:port] or ssl://host[:port]") from error


def _identity(text: str) -> Identity:
    if not valid_device_id(text):
        raise argparse.ArgumentTypeError("expected <namespace>:<name>, without spaces and / + #")
    return Identity(text)


def _level(text: str) -> str:
    """A level of an MQTT topic."""
    if not text.isprintable() or set("/+#") & set(text):
        raise argparse.ArgumentTypeError("must be printable, without / + #")
    return text


def _seconds(text: str) -> float:
    try:
        timeout_s = parse_duration(text).total_seconds()
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not 0 < timeout_s < math.inf:
        raise argparse.ArgumentTypeError("must be above 0")
    return timeout_s


def _file(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file '{text}'")
    return path
