"""`edge-backup check-config`: shows the settings in effect, and updates the keys of an old file."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from agent.base.durable import replace_file
from agent.cli import EXIT_BAD_SETTINGS, EXIT_OK, settings_from
from agent.cli.config_checks import problems, warnings
from agent.cli.settings import parse_settings_arguments
from agent.settings.keys import MOVED, RENAMED_GROUPS
from agent.settings.load import effective
from agent.settings.sources import read_json

PROGRAM = "edge-backup check-config"


def check_config(argv: list[str]) -> int:
    """Print the settings in effect as JSON on stdout, and notices on stderr; the exit status.

    With `--write`, keys of an earlier version are replaced in the configuration file first.
    """
    if "--write" in argv:
        argv = [argument for argument in argv if argument != "--write"]
        config_file, _ = parse_settings_arguments(PROGRAM, argv)
        problem = _write_new_keys(config_file) if config_file else "--write needs --config FILE"
        if problem:
            sys.stderr.write(f"{problem}\n")
            return EXIT_BAD_SETTINGS
    loaded = settings_from(PROGRAM, argv)
    if loaded is None:
        return EXIT_BAD_SETTINGS
    for notice in loaded.notices:
        sys.stderr.write(f"{notice.level}: {notice.text}\n")
    sys.stderr.write("".join(f"warning: {text}\n" for text in warnings(loaded.settings)))
    # The agent itself starts without these, and serves its backend.
    if found := list(problems(loaded.settings)):
        sys.stderr.write("".join(f"{problem}\n" for problem in found))
        return EXIT_BAD_SETTINGS
    sys.stdout.write(json.dumps(effective(loaded.settings), indent=2) + "\n")
    return EXIT_OK


def _write_new_keys(path: Path) -> str:
    """Replace old keys in the file by today's; return the problem, or an empty text."""
    content = read_json(path)
    if isinstance(content, str):
        return content
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
