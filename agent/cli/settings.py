"""The options of the command line that are settings, with the single dashes of Kanto's agent accepted."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from agent.cli.settings_help import TOPICS, described, overview
from agent.settings.keys import KEYS
from agent.settings.sections import SECTIONS
from agent.settings.sources import CONFIG_VARIABLE

DEFAULT_CONFIG = Path("/etc/edge-backup/config.json")
"""Read by every command that is not told another file, where it exists."""


def parse_settings_arguments(prog: str, argv: Sequence[str]) -> tuple[Path | None, dict[str, str]]:
    """Return the configuration file and the overrides by key, as given. Exits with status 2 on wrong usage.

    Without `--config` the file is the one that `EDGE_BACKUP_CONFIG` names, else `DEFAULT_CONFIG` if there.
    Every property of Kanto's is an option of its own, as Go's flag package writes them (`-mode lax`,
    `-checksum`, `-checksum=false`); with two dashes it is the same. `--set key=value` is for all others.
    """
    parsed = _parser(prog).parse_args([_two_dashes(argument) for argument in argv])
    overrides = {
        key.name: value for key in KEYS if key.kanto and (value := getattr(parsed, key.name)) is not None
    }
    return parsed.config_file or _usual_config(), overrides | dict(parsed.set)


def _usual_config() -> Path | None:
    if named := os.environ.get(CONFIG_VARIABLE):
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.exists() else None


def _two_dashes(argument: str) -> str:
    # With one dash argparse would take every unique beginning of a name for the name; Go's flags do not.
    is_long = len(argument) > 2 and argument[0] == "-" and argument[1] != "-"
    return f"-{argument}" if is_long else argument


class _Help(argparse.Action):
    """Prints the short help, or the settings of a section, and ends the program."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,  # noqa: ARG002 - what argparse passes
        values: object,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        asked = f"{described(values)}\n" if isinstance(values, str) else _short(parser.prog).format_help()
        sys.stdout.write(asked)
        parser.exit()


def _parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of all options; Kanto's properties are in groups, as the sections have them."""
    parser = _short(prog)
    for section in SECTIONS:
        group = parser.add_argument_group(section.title)
        for key in filter(lambda key: key.kanto, section.keys()):
            is_switch = isinstance(key.default, bool)
            default = f" (default: {key.default})" if key.default != "" else ""
            group.add_argument(
                f"--{key.name}",
                dest=key.name,
                nargs="?" if is_switch else None,
                const="true" if is_switch else None,
                metavar=key.kind.unit.replace(" or ", "|").replace(" ", "-"),
                help=f"{key.help}{default}".replace("%", "%%"),
            )
    return parser


def _short(prog: str) -> argparse.ArgumentParser:
    """Return a parser without Kanto's properties: with 28 options more, nobody would read its help."""
    usage = f"{prog} [--config FILE] [--<setting> VALUE ...] [--set KEY=VALUE ...]"
    parser = argparse.ArgumentParser(
        prog=prog,
        usage=usage,
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
    parser.add_argument(
        *("--config", "--configFile"),
        dest="config_file",
        type=Path,
        metavar="FILE",
        help=f"configuration file (JSON); otherwise ${CONFIG_VARIABLE}, then {DEFAULT_CONFIG}",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=_assignment,
        metavar="KEY=VALUE",
        help="any setting, for example --set archive.level=fast",
    )
    return parser


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError("expected KEY=VALUE")
    return name, value
