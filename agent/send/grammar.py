"""The grammar of the command line of `edge-backup send`. argparse and nothing heavy, so help is quick."""

import argparse
import math
import re
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agent.base.durations import parse_duration
from agent.base.operations import OPERATIONS, Face, Operation, offered
from agent.base.text import valid_device_id
from agent.mqtt.hono import Identity
from agent.send.options import SOURCES, option, secret_source

if TYPE_CHECKING:
    from agent.settings.parsing import BrokerAddress

_FIELDS = {
    "statusCode": "status code that the job ends with",
    "message": "message that the job ends with",
    "from": "start: RFC 3339, or seconds since 1970 (default: now)",
    "to": "end: RFC 3339, or seconds since 1970 (default: never)",
}
"""Members of a value that have an argument of their own."""
_EPILOG = f"""\
Do not put a secret on the command line: everybody on the machine can read it there. --secret says where
it is kept: {SOURCES} (one line for each secret).

examples:
  edge-backup send backup --broker tcp://gateway:1883 --device edge:device -o storage.provider=local
  edge-backup send backup --broker tcp://gateway:1883 --device edge:device \\
      --answer storage.provider=aws --answer aws.region=eu-central-1 --answer aws.s3.bucket=backups \\
      --answer aws.access.key.id=AKIA... --answer-secret aws.secret.access.key=@/run/secrets/aws

exit status: 0 done, 1 refused, failed or timed out, 2 wrong usage, 130 interrupted
"""


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser, and the parser of each operation; `agent.send.arguments` reads the result."""
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
        name: subparsers.add_parser(
            name,
            help=OPERATIONS[name].help,
            description=OPERATIONS[name].help,
            parents=[common],
            allow_abbrev=False,
        )
        for name in offered(Face.MQTT)
    }
    for name, operation in operations.items():
        operation.set_defaults(correlation_id="", option=[], secret=[], dir="", answer=[], answer_secret=[])
        _add_value(operation, OPERATIONS[name])
    for name in ("backup", "restore", "info"):
        operations[name].add_argument("--dir", help="directory on the device (option backup.dir)")
    for name in ("backup", "trigger"):
        _add_answer(operations[name])
    return parser, operations


def operation_first(argv: Sequence[str]) -> list[str]:
    """Return the arguments with the operation before the options that were given before it."""
    for number, word in enumerate(argv):
        before = argv[number - 1] if number else ""
        is_value = before.startswith("-") and "=" not in before and before != "--json"
        if word in offered(Face.MQTT) and not is_value:
            return [word, *argv[:number], *argv[number + 1 :]]
    return list(argv)


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add = common.add_argument
    add(
        "--broker", required=True, type=_address, metavar="URL", help="tcp://host[:port] or ssl://host[:port]"
    )
    add("--device", required=True, type=_identity, metavar="NS:NAME", help="id of the device")
    add("--feature", default="BackupAndRestore", type=_level, help="feature id (default: %(default)s)")
    add("--request-id", default="", type=_level, metavar="ID", help="request id in the topic (default: none)")
    add(
        "--timeout",
        default="1h",
        type=_seconds,
        help="after which the command expires, such as 90s (default: 1h)",
    )
    add("--json", action="store_true", help="one JSON object on stdout for each message of the device")
    add("--username", default="", help="user name for the broker")
    add("--password-file", metavar="FILE", help="file with the password for the broker")
    add(
        "--ca",
        type=_file,
        metavar="FILE",
        help="authorities for the broker (PEM; default: the system's)",
    )
    add("--cert", type=_file, metavar="FILE", help="client certificate (PEM)")
    add("--key", type=_file, metavar="FILE", help="key of the client certificate (PEM)")
    return common


def _add_value(parser: argparse.ArgumentParser, operation: Operation) -> None:
    if "correlationId" in operation.fields:
        _add_id(parser, operation)
    if "options" in operation.fields:
        _add_options(parser)
    _add_fields(parser, [name for name in operation.fields if name in _FIELDS])


def _add_id(parser: argparse.ArgumentParser, operation: Operation) -> None:
    text, made = "of the job", ""
    if operation.makes_id:
        text, made = "of this command (default: a new one)", str(uuid.uuid4())
    elif operation.name == "start":
        text = "of the upload request (X#1)"
    parser.add_argument(
        "--correlation-id",
        default=made,
        required=not made,
        metavar="ID",
        help=f"correlation id {text}",
    )


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-o", "--option", action="append", type=option, metavar="KEY=VALUE", help="option of the command")
    add("--secret", action="append", type=secret_source, metavar="KEY=SOURCE", help="secret option")


def _add_answer(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    request = "of the destination for the device's upload request"
    add("--answer", action="append", type=option, metavar="KEY=VALUE", help=f"option {request}")
    add(
        "--answer-secret",
        action="append",
        type=secret_source,
        metavar="KEY=SOURCE",
        help=f"secret option {request}",
    )


def _add_fields(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add options whose texts are members of the command's value, `--status-code` for `statusCode`."""
    arguments = {name: re.sub("[A-Z]", lambda letter: f"-{letter[0].lower()}", name) for name in names}
    for name, argument in arguments.items():
        parser.add_argument(f"--{argument}", dest=name, default="", help=_FIELDS[name])
    parser.set_defaults(fields=lambda parsed: {name: getattr(parsed, name) for name in arguments})


# Types: a text becomes a value, or is refused with a sentence


def _address(text: str) -> "BrokerAddress":
    from agent.settings.parsing import parse_broker

    try:
        return parse_broker(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected tcp://host[:port] or ssl://host[:port]") from error


def _identity(text: str) -> Identity:
    if not valid_device_id(text):
        raise argparse.ArgumentTypeError("expected <namespace>:<name>, without spaces and / + #")
    return Identity(text)


def _level(text: str) -> str:
    """Check a level of an MQTT topic."""
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
