"""`edge-backup init`: asks a few questions, or takes flags, and writes a small configuration."""

import argparse
import getpass
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from agent.base.durable import make_directories, replace_file
from agent.cli import EXIT_BAD_SETTINGS, EXIT_OK
from agent.cli.config_checks import problems
from agent.cli.follow import add_wire_options, options_of
from agent.cli.settings import DEFAULT_CONFIG
from agent.cli.setup import SHARE
from agent.send.options import UnusableOption
from agent.settings.load import SettingsError, load
from agent.settings.sources import CONFIG_VARIABLE
from agent.settings.stores import is_secret

STORE, SCHEDULE = "backups", "daily"
_NONE = "none"
_RETENTION = {"keepDaily": 7, "keepWeekly": 5, "keepMonthly": 12}
_MOUNTED_BELOW = ("/media", "/mnt", "/run/media")
_WRITABLE = ("/var/lib/edge-backup/", "/media/")
"""The unit lets the agent write there."""
_Answers = tuple[dict[str, str], dict[str, str]]
"""The answers by name, and the options of the provider."""


@dataclass(frozen=True, slots=True)
class _Question:
    """A question at the terminal, which is the flag `--<name>` in a script; only `dir` has no default."""

    name: str
    text: str
    default: str = ""


_QUESTIONS = (
    _Question("dir", "directory to save"),
    _Question("provider", "kind of storage for archives: local, aws or azure", "local"),
    _Question("target", "directory for archives, if that is local", "/var/lib/edge-backup/archives"),
    _Question("time", f"time of the daily backup, or {_NONE}", "02:00"),
    _Question("recipient", f"public key (age1…) to encrypt archives for, or {_NONE}", _NONE),
    _Question("broker", "MQTT broker", "tcp://localhost:1883"),
    _Question("device-id", f"id of this device, such as edge:device, or {_NONE}: the broker says it", _NONE),
)
_OPTIONS = {
    "aws": (
        _Question("aws.s3.bucket", "name of the bucket"),
        _Question("aws.region", "region, such as eu-central-1"),
        _Question("aws.endpoint.url", f"address of the server, or {_NONE}: Amazon's own", _NONE),
        _Question("aws.access.key.id", "access key id"),
        _Question("aws.secret.access.key", "secret access key, which is not shown"),
    ),
    "azure": (
        _Question(
            "azure.storage.endpoint", "address of the account, such as https://name.blob.core.windows.net"
        ),
        _Question("azure.blob.container", "name of the container"),
        _Question("azure.shared.access.signature", "shared access signature, which is not shown"),
    ),
}
"""Questions for the options of a provider; in a script `-o` and `--secret` give them."""
_ASKED_FOR = ("local", *_OPTIONS)
"""The providers that can be set up at the terminal; a flag takes any."""
_NOT_SHOWN = ("aws.secret.access.key", "azure.shared.access.signature")


def init(argv: list[str]) -> int:
    """Write the configuration, and the file with the store's credentials beside it; the exit status."""
    parser = _parser()
    parsed = parser.parse_args(argv)
    path: Path = parsed.config.absolute()  # the agent has another working directory
    made_in = next(each for each in path.parents if each.exists())
    if not os.access(made_in, os.W_OK | os.X_OK):  # before anybody answers questions
        parser.error(f"'{path}' cannot be written by this user; run it as root, or give another --config")
    if not parsed.force and (found := [each for each in (path, _credentials(path)) if _is_the_owners(each)]):
        parser.error(f"'{found[0]}' is there already; give another --config, or --force to replace it")
    try:
        answers, options = _asked() if _is_to_ask(parsed) else _given(parser, parsed)
    except (EOFError, UnusableOption) as error:
        parser.error(str(error) or "the questions were not answered")
    if refused := _refused(path, answers, options):
        sys.stderr.write(f"{refused}\nnothing is written\n")
        return EXIT_BAD_SETTINGS
    try:
        make_directories(path.parent, 0o755)
        _write(path, _credentials(path), answers, options)
    except OSError as error:
        parser.error(f"'{path}' cannot be written ({error.strerror})")
    sys.stdout.write("".join(f"{line}\n" for line in _said(path, answers)))
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-backup init",
        description="Write a small configuration: one directory, backed up every day to one store, with"
        " retention. Without any of the flags from --dir on, it asks for them at the terminal.",
        allow_abbrev=False,
    )
    parser.add_argument(
        *("--config", "-config"),
        metavar="FILE",
        type=Path,
        default=os.environ.get(CONFIG_VARIABLE) or DEFAULT_CONFIG,
        help=f"file to write; otherwise ${CONFIG_VARIABLE}, then {DEFAULT_CONFIG}",
    )
    parser.add_argument("--force", action="store_true", help="replace a configuration that is there")
    for each in _QUESTIONS:
        default = f" (default: {each.default})" if each.default else ""
        parser.add_argument(f"--{each.name}", dest=each.name, metavar="TEXT", help=f"{each.text}{default}")
    add_wire_options(parser)
    return parser


def _is_the_owners(path: Path) -> bool:
    """Return True for a file that is there, unless it is the default configuration without a change."""
    try:
        return path.read_bytes() != (SHARE / "config.json").read_bytes()
    except FileNotFoundError:
        return path.is_symlink()
    except OSError:  # a directory, or unreadable for this user
        return True


def _is_to_ask(parsed: argparse.Namespace) -> bool:
    given = any(vars(parsed)[each.name] is not None for each in _QUESTIONS)
    return not (given or parsed.option or parsed.secret) and sys.stdin.isatty()


def _asked() -> _Answers:
    """Ask everything. Raises EOFError."""
    answers: dict[str, str] = {}
    options: dict[str, str] = {}
    for each in _QUESTIONS:
        if each.name != "target" or answers["provider"] == "local":
            answers[each.name] = _answer(each)
        if each.name == "provider":
            options = {asked.name: _answer(asked) for asked in _OPTIONS.get(answers["provider"], ())}
    return answers, {key: text for key, text in options.items() if text}


def _answer(question: _Question) -> str:
    """Ask until there is an answer that can be used. Raises EOFError."""
    prompt = f"{question.text} [{question.default}]: " if question.default else f"{question.text}: "
    ask = getpass.getpass if question.name in _NOT_SHOWN else input
    while True:
        text = ask(prompt).strip() or question.default
        if not text:
            sys.stderr.write("this needs an answer; Ctrl-C ends, and writes nothing\n")
        elif question.name == "provider" and text not in _ASKED_FOR:
            sys.stderr.write(f"expected one of {', '.join(_ASKED_FOR)}\n")
        else:
            return "" if text == _NONE else text


def _given(parser: argparse.ArgumentParser, parsed: argparse.Namespace) -> _Answers:
    """Return what `_asked` does, from the flags. Raises `UnusableOption` for a secret that cannot be read."""
    if not parsed.dir:
        parser.error("--dir is missing; at a terminal, without flags, all is asked for")
    answers = {each.name: each.default for each in _QUESTIONS}
    answers |= {name: vars(parsed)[name] for name in answers if vars(parsed)[name] is not None}
    return {name: "" if text == _NONE else text for name, text in answers.items()}, options_of(parsed, {})


def _credentials(path: Path) -> Path:
    return path.with_name(f"{STORE}.json")


def _refused(path: Path, answers: Mapping[str, str], options: Mapping[str, str]) -> str:
    """Return what `check-config` would refuse, a line each; "" for a configuration that is good."""
    with TemporaryDirectory() as directory:
        tried = Path(directory) / path.name
        _write(tried, _credentials(tried), answers, options)
        try:
            found = "\n".join(problems(load({}, tried, {}).settings))
        except SettingsError as error:
            found = str(error)
        return found.replace(directory, str(path.parent))


def _write(path: Path, credentials: Path, answers: Mapping[str, str], options: Mapping[str, str]) -> None:
    """Write the configuration, and secret options into a file of their own. Raises OSError.

    Who may read a configuration that is replaced may read both: the package lets the agent's group do that.
    """
    mode, group = _readers(path)
    secrets = {key: text for key, text in options.items() if is_secret(key, text)}
    store: dict[str, Any] = {"provider": answers["provider"]}
    if seen := {key: text for key, text in options.items() if key not in secrets}:
        store["options"] = seen
    if secrets:
        store["credentials"] = str(credentials)
        _replace(credentials, secrets, mode, group)
    _replace(path, dict(_settings(answers, store)), mode, group)


def _readers(path: Path) -> tuple[int, int]:
    """Return the mode of the file, without others, and its group; -1 for the group of a file that is new."""
    with suppress(FileNotFoundError):
        found = path.stat()
        return found.st_mode & 0o640, found.st_gid
    return 0o600, -1


def _replace(path: Path, value: object, mode: int, group: int) -> None:
    replace_file(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", mode)
    with suppress(PermissionError):  # a user whose file has a group that is not theirs
        os.chown(path, -1, group)


def _settings(answers: Mapping[str, str], store: dict[str, Any]) -> Iterator[tuple[str, object]]:
    if answers["device-id"]:
        yield "deviceId", answers["device-id"]
    yield "broker", answers["broker"]
    yield "dir", os.path.abspath(answers["dir"])
    yield "storage", "/var/lib/edge-backup/storage"
    yield "logFile", ""  # systemd's journal has the log
    if store["provider"] == "local":
        store.setdefault("options", {"local.target": STORE})
        target = Path(os.path.abspath(answers["target"]))
        mount = {"mount": True} if any(map(target.is_relative_to, _MOUNTED_BELOW)) else {}
        yield "targets", {STORE: {"path": str(target), **mount}}
    yield "stores", {STORE: store}
    if answers["time"]:
        yield "schedules", {SCHEDULE: {"times": [answers["time"]], "store": STORE}}
    yield "retention", _RETENTION
    if answers["recipient"]:
        yield "encryption", {"recipients": [answers["recipient"]]}


def _said(path: Path, answers: Mapping[str, str]) -> Iterator[str]:
    yield f"written: {path}"
    target = os.path.abspath(answers.get("target", ""))
    if answers["provider"] == "local" and not target.startswith(_WRITABLE):
        yield f"let the service write there: install -d -o edge-backup -g edge-backup -m 0700 {target}"
        yield f"and, with systemctl edit edge-backup:\n  [Service]\n  ReadWritePaths={target}"
    named = "" if path == DEFAULT_CONFIG else f" --config {shlex.quote(str(path))}"
    start = f"edge-backup run{named}" if named else "systemctl restart edge-backup"
    yield f"next: edge-backup check-config --connect{named}; {start}"
    yield f"then a first backup: edge-backup backup --store {STORE}{named}"
