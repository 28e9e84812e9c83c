"""The options of the command line that are settings, with the single dashes of Kanto's agent accepted."""

import argparse
import json
import os
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.cli import SUBCOMMANDS
from agent.settings.keys import KEYS, Key
from agent.settings.sections import FIRST, SECTIONS
from agent.settings.sources import CONFIG_VARIABLE

DEFAULT_CONFIG = Path("/etc/edge-backup/config.json")
"""Read by every command that is not told another file, where it exists."""
ALL = "all"
TOPICS = (*(section.name for section in SECTIONS), ALL)
"""The words that may follow `--help`."""
_WIDTH = 100

_LONG_NAME = re.compile(r"-[^-o].")
"""`-o` is an option of many commands, and its value may follow without a blank."""
_SETTING = "setting "
"""Beginning of the names of settings among parsed arguments: a command has arguments of its own."""


def parse_settings(prog: str, flags: Mapping[str, str], argv: Sequence[str]) -> argparse.Namespace:
    """Parse settings, and `flags` with their help. Exits with status 2 on wrong usage."""
    parser = _short(prog, flags)
    parser.set_defaults(flags=flags)
    _add_kantos(parser, shown=True)
    return parser.parse_args(two_dashes(argv))


def settings_given(parsed: argparse.Namespace) -> tuple[Path | None, dict[str, str]]:
    """Return the configuration file and the overrides by key among parsed arguments.

    Without `--config` the file is the one that `EDGE_BACKUP_CONFIG` names, else `DEFAULT_CONFIG` if there.
    """
    values = _settings_in(parsed)
    config_file: Path | None = values.pop("config")
    assigned = dict(values.pop("set"))
    overrides = {name: value for name, value in values.items() if value is not None}
    return config_file or _usual_config(), overrides | assigned


def first_setting(parsed: argparse.Namespace) -> str:
    """Return a name among the settings that were given; "" for none."""
    return next((name for name, value in _settings_in(parsed).items() if value), "")


def _settings_in(parsed: argparse.Namespace) -> dict[str, Any]:
    found = vars(parsed).items()
    return {name.removeprefix(_SETTING): value for name, value in found if name.startswith(_SETTING)}


def _usual_config() -> Path | None:
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def two_dashes(argv: Sequence[str]) -> list[str]:
    """Return the arguments with two dashes before each long name.

    With one dash argparse would take every unique beginning of a name for the name; Go's flags do not.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    return [f"-{each}" if _LONG_NAME.match(each) else each for each in argv[:end]] + list(argv[end:])


class _Help(argparse.Action):
    """Prints the short help, or the settings of a section, and ends the program."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 - what argparse passes
        values: object,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        short = _short(parser.prog, parser.get_default("flags")).format_help()
        sys.stdout.write(f"{described(values)}\n" if isinstance(values, str) else short)
        parser.exit()


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the options that are settings to a command, which has others to show in its help."""
    _add_general(parser, shown=False)
    _add_kantos(parser, shown=False)


def _short(prog: str, flags: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return a parser without Kanto's properties: with 28 options more, nobody would read its help."""
    own, purpose = "".join(f" [--{flag}]" for flag in flags), SUBCOMMANDS[prog.rsplit(maxsplit=1)[-1]].help
    parser = argparse.ArgumentParser(
        prog=prog,
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        usage=f"{prog}{own} [--config FILE] [--<setting> VALUE ...] [--set KEY=VALUE ...]",
        epilog=f"{overview()}\n\nA name may have one dash or two. The same list: man edge-backup-settings.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    parser.add_argument(
        *("-h", "--help"),
        nargs="?",
        action=_Help,
        choices=TOPICS,
        metavar="SECTION",
        help="show this, or the settings of a section",
    )
    for flag, text in flags.items():
        parser.add_argument(f"--{flag}", action="store_true", help=text)
    _add_general(parser, shown=True)
    return parser


def _add_general(parser: argparse.ArgumentParser, *, shown: bool) -> None:
    file = f"configuration file (JSON); otherwise ${CONFIG_VARIABLE}, then {DEFAULT_CONFIG}"
    parser.add_argument(
        *("--config", "--configFile"),
        dest=f"{_SETTING}config",
        type=Path,
        metavar="FILE",
        help=file if shown else argparse.SUPPRESS,
    )
    parser.add_argument(
        "--set",
        dest=f"{_SETTING}set",
        action="append",
        default=[],
        type=_assignment,
        metavar="KEY=VALUE",
        help="any setting, for example --set archive.level=fast" if shown else argparse.SUPPRESS,
    )


def _add_kantos(parser: argparse.ArgumentParser, *, shown: bool) -> None:
    """Add Kanto's properties, in groups as the sections have them, except names that the parser has already.

    Every property is an option of its own, as Go's flag package writes them (`-mode lax`, `-checksum`,
    `-checksum=false`); with two dashes it is the same.
    """
    for section in SECTIONS:
        group = parser.add_argument_group(section.title) if shown else parser
        for key in filter(lambda key: key.kanto, section.keys()):
            is_switch = isinstance(key.default, bool)
            default = f" (default: {key.default})" if key.default != "" else ""
            with suppress(argparse.ArgumentError):
                group.add_argument(
                    f"--{key.name}",
                    dest=f"{_SETTING}{key.name}",
                    nargs="?" if is_switch else None,
                    const="true" if is_switch else None,
                    metavar=key.kind.unit.replace(" or ", "|").replace(" ", "-"),
                    help=f"{key.help}{default}".replace("%", "%%") if shown else argparse.SUPPRESS,
                )


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError("expected KEY=VALUE")
    return name, value


def overview() -> str:
    """Return the twelve settings that a fleet needs first, and the names of the sections."""
    by_name = {key.name: key for key in KEYS}
    first = [by_name[name] for name in FIRST]
    lines = ["settings to begin with:", *_entries(first), "", "all settings, by section:"]
    lines += [f"  --help {name:12}{title}" for name, title in _topics()]
    return "\n".join(lines)


def described(topic: str) -> str:
    """Return every setting of the section `topic`, or of all sections."""
    chosen = [section for section in SECTIONS if topic in (section.name, ALL)]
    return "\n\n".join("\n".join([f"{section.title}:", *_entries(section.keys())]) for section in chosen)


def _topics() -> Iterator[tuple[str, str]]:
    yield from ((section.name, f"{section.title} ({len(section.keys())})") for section in SECTIONS)
    yield ALL, f"Everything ({len(KEYS)})"


def _entries(keys: Iterable[Key]) -> Iterator[str]:
    for key in keys:
        yield f"  {key.name}  ({'; '.join(_facts(key))})"
        yield textwrap.fill(key.help, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _facts(key: Key) -> Iterator[str]:
    yield key.kind.unit
    if key.default is None:
        yield "required"
    elif key.default != "":
        yield f"default {json.dumps(key.default)}"
    if key.name in FIRST:
        yield f"example {json.dumps(FIRST[key.name])}"
