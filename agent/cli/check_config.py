"""`edge-backup check-config`: shows the settings in effect, and updates the keys of an old file."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.base.durable import replace_file
from agent.base.text import printable
from agent.cli import EXIT_BAD_SETTINGS, EXIT_OK, settings_of
from agent.cli.config_checks import problems, warnings
from agent.cli.settings import parse_settings, settings_given
from agent.settings import Settings
from agent.settings.keys import MOVED, RENAMED_GROUPS
from agent.settings.load import effective
from agent.settings.sources import read_json

PROGRAM = "edge-backup check-config"
FLAGS = {
    "write": "replace keys of an earlier version in the file",
    "connect": "try the broker and every store, too; nothing is written",
}
EXIT_NOT_REACHED = 1
"""The settings are good, and the broker or a store cannot be used now."""


def check_config(argv: list[str]) -> int:
    """Print the settings in effect as JSON on stdout, and notices on stderr; return the exit status.

    With `--write`, keys of an earlier version are replaced in the configuration file first. With `--connect`
    broker and stores are tried, too.
    """
    parsed = parse_settings(PROGRAM, FLAGS, argv)
    if parsed.write and (problem := _write_problem(settings_given(parsed)[0])):
        sys.stderr.write(f"{problem}\n")
        return EXIT_BAD_SETTINGS
    loaded = settings_of(parsed)
    if loaded is None:
        return EXIT_BAD_SETTINGS
    for notice in loaded.notices:
        sys.stderr.write(f"{notice.level}: {notice.text}\n")
    sys.stderr.write("".join(f"warning: {text}\n" for text in warnings(loaded.settings)))
    # The agent itself starts also with these problems, and serves its backend.
    found = list(problems(loaded.settings))
    sys.stderr.write("".join(f"{problem}\n" for problem in found))
    if not found:
        sys.stdout.write(json.dumps(effective(loaded.settings), indent=2) + "\n")
        sys.stdout.flush()
    connected = _connected(loaded.settings) if parsed.connect else True
    if found:
        return EXIT_BAD_SETTINGS
    return EXIT_OK if connected else EXIT_NOT_REACHED


def _connected(settings: Settings) -> bool:
    """Try broker and stores, and print a line for each on stderr; return True when all can be used."""
    from agent.cli.connect import tries

    results = list(tries(settings))
    sys.stderr.write("".join(f"{printable(f'{each.name}: {each.text}')}\n" for each in results))
    return all(each.good for each in results)


def _write_problem(path: Path | None) -> str:
    return _write_new_keys(path) if path else "--write needs --config FILE"


def _write_new_keys(path: Path) -> str:
    """Replace old keys in the file by today's; return the problem, or an empty text."""
    found = read_json(path)
    if isinstance(found, str):
        return found
    content, twice = found
    if twice:
        return f"{path}: '{twice[0]}' is given twice; keep one"
    today = list(_today(content))
    renamed = dict(today)
    if len(renamed) < len(today):
        return f"{path}: has a group under its old and under its new name; keep one"
    if list(renamed) == list(content):
        return ""
    try:
        replace_file(path, json.dumps(renamed, indent=2, ensure_ascii=False) + "\n", os.stat(path).st_mode)
    except OSError as error:
        return f"{path}: cannot be written ({error.strerror})"
    sys.stderr.write(f"{path}: old keys are replaced\n")
    return ""


def _today(content: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield the keys of a file as they are called today, with their values."""
    moved_groups = {key.partition(".")[0] for key in MOVED}
    for key, value in content.items():
        head, dot, rest = key.partition(".")
        if key in moved_groups and isinstance(value, dict):
            for member, inner in value.items():
                yield MOVED.get(f"{key}.{member}", f"{key}.{member}"), inner
        else:
            yield MOVED.get(key, f"{RENAMED_GROUPS.get(head, head)}{dot}{rest}"), value
