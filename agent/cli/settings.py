"""The options of the command line that are settings, with the single dashes of Kanto's agent accepted."""

import argparse
import os
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent.cli import SUBCOMMANDS
from agent.cli.settings_help import TOPICS, described, overview
from agent.settings.sections import SECTIONS
from agent.settings.sources import CONFIG_VARIABLE

DEFAULT_CONFIG = Path("/etc/edge-backup/config.json")
"""Read by every command that is not told another file, where it exists."""


_LONG_NAME = re.compile(r"-[^-o].")
"""`-o` is an option of many commands, and its value may follow without a blank."""
_SETTING = "setting "
"""Beginning of the names of settings among parsed arguments: a command has arguments of its own."""


def parse_settings_arguments(prog: str, argv: Sequence[str]) -> tuple[Path | None, dict[str, str]]:
    """Return the configuration file and the overrides by key. Exits with status 2 on wrong usage."""
    return settings_given(settings_parser(prog, {}).parse_args(two_dashes(argv)))


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


def settings_parser(prog: str, flags: Mapping[str, str]) -> argparse.ArgumentParser:
    """Return a parser of settings, and of `flags` with their help."""
    parser = _short(prog, flags)
    parser.set_defaults(flags=flags)
    _add_kantos(parser, shown=True)
    return parser


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
        epilog=f"{overview()}\n\nA name may have one dash or two. The same list: docs/settings.md.",
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
