"""Manual pages (man(7)): of the commands from their parsers, of the options from docs/wire.md."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from agent import RELEASED, __version__
from agent.cli import EXIT_STATUSES, SUBCOMMANDS
from agent.cli.settings import ALL, DEFAULT_CONFIG, described
from tests.support.parsers import main_parser, parser_of

PROGRAM = "edge-backup"
_WIRE = Path(__file__).parents[2] / "docs" / "wire.md"
_ROW = re.compile(r"^\| `(?P<key>[^`]+)` \| (?P<used_by>.+?) \| (?P<meaning>.+) \|$", re.MULTILINE)
_MARKUP = re.compile(r"\[([^]]+)\]\([^)]+\)|`([^`]+)`")
"""A link, or a word in the type of a machine."""


def manuals() -> dict[str, str]:
    """Return the pages of the program, of every command, the options and the settings, by file name."""
    pages = {f"{PROGRAM}-{name}.1": page(parser_of(name), each.help) for name, each in SUBCOMMANDS.items()}
    pages[f"{PROGRAM}.1"] = page(main_parser(), "backup and restore agent for edge devices")
    return {**pages, f"{PROGRAM}-options.5": _options_page(), f"{PROGRAM}-settings.5": _settings_page()}


def page(parser: argparse.ArgumentParser, purpose: str) -> str:
    """Return the manual page of a command; `purpose` is a phrase for the list of all manual pages."""
    name = parser.prog.replace(" ", "-")
    return "\n".join(
        [
            *_head(name, 1, purpose),
            *(".SH SYNOPSIS", _text(_usage(parser))),
            *(".SH DESCRIPTION", _paragraphs(parser.description or f"{purpose[0].upper()}{purpose[1:]}.")),
            *_options(parser),
            *_epilog(parser),
            *(".SH EXIT STATUS", f"{_text(EXIT_STATUSES)}."),
            *_see_also(f"{name}(1)"),
            "",
        ]
    )


def _settings_page() -> str:
    """Return the page of the configuration file, which is `run --help all`."""
    text = "The configuration is a JSON object; a key with a dot may be nested. These are its keys."
    name = f"{PROGRAM}-settings"
    return "\n".join(
        [
            *_head(name, 5, "the configuration file of edge-backup"),
            *(".SH SYNOPSIS", _text(str(DEFAULT_CONFIG))),
            *(".SH DESCRIPTION", text),
            *(".SH SETTINGS", *_as_it_is(described(ALL))),
            *_see_also(f"{name}(5)"),
            "",
        ]
    )


def _options_page() -> str:
    """Return the page of the options that `-o` and `--secret` take."""
    rows = (
        _WIRE.read_text("utf-8").partition("<!-- options: begin -->")[2].partition("<!-- options: end -->")[0]
    )
    name = f"{PROGRAM}-options"
    listed = (
        (".TP", rf"\fB{_text(row['key'])}\fR ({_plain(row['used_by'])})", _plain(row["meaning"]))
        for row in _ROW.finditer(rows)
    )
    text = "These options go with an operation, or with a provider, whose name is in parentheses then."
    return "\n".join(
        [
            *_head(name, 5, "options of the commands of edge-backup"),
            *(".SH SYNOPSIS", _text("edge-backup backup [-o KEY=VALUE] [--secret KEY=SOURCE]")),
            *(".SH DESCRIPTION", text),
            *(".SH OPTIONS", *(line for row in listed for line in row)),
            *_see_also(f"{name}(5)"),
            "",
        ]
    )


def _plain(text: str) -> str:
    return _text(_MARKUP.sub(lambda found: found[1] or found[2], text))


def _head(name: str, section: int, purpose: str) -> tuple[str, ...]:
    title = f'.TH {name.upper()} {section} {RELEASED:%Y-%m-%d} "{PROGRAM} {__version__}"'
    return title, ".SH NAME", f"{_text(name)} \\- {_text(purpose)}"


def _usage(parser: argparse.ArgumentParser) -> str:
    return " ".join(parser.format_usage().split()).removeprefix("usage: ")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield a section for each group of arguments that is not empty."""
    for group in parser._action_groups:  # noqa: SLF001 - argparse has no other way to the groups
        shown = [each for each in group._group_actions if each.help != argparse.SUPPRESS]  # noqa: SLF001
        operations = [each for each in shown if isinstance(each, argparse._SubParsersAction)]  # noqa: SLF001
        if shown:
            yield f".SH {_text((group.title or '').upper())}"
            if group.description:
                yield _paragraphs(group.description)
        for action in shown:
            yield from _operations(action) if action in operations else _option(action, parser.prog)


def _operations(action: argparse.Action) -> Iterator[str]:
    """Yield the operations of a command that has some, then the options of all of them, each once."""
    inner: dict[str, argparse.ArgumentParser] = dict(action.choices or {})
    for name, parser in inner.items():
        yield from (".TP", rf"\fB{_text(name)}\fR", _text(parser.description or ""))
    yield ".SH OPTIONS OF THE OPERATIONS"
    yield "Those that an operation takes are listed by its own \\fB\\-\\-help\\fR."
    options = {
        tuple(each.option_strings): each
        for parser in reversed(inner.values())
        for each in parser._actions  # noqa: SLF001
    }
    for each in options.values():
        yield from _option(each, PROGRAM)


def _option(action: argparse.Action, prog: str) -> Iterator[str]:
    names = [rf"\fB{_text(name)}\fR" for name in action.option_strings]
    value = "" if action.nargs == 0 else rf"\fI{_text(_value(action))}\fR"
    value = f"[{value}]" if action.nargs == "?" and names else value
    heads = [f"{name} {value}".strip() for name in names] or [value]
    yield from (".TP", ", ".join(heads), _text((action.help or "") % {**vars(action), "prog": prog}))


def _value(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def _epilog(parser: argparse.ArgumentParser) -> Iterator[str]:
    if not parser.epilog:
        return
    yield ".SH NOTES"
    if parser.formatter_class is argparse.RawDescriptionHelpFormatter:
        yield from _as_it_is(parser.epilog.partition("\n\nexit status:")[0])  # a section of its own has it
    else:
        yield _paragraphs(parser.epilog)


def _as_it_is(text: str) -> Iterator[str]:
    """Yield the text with its own lines."""
    yield from (".nf", *map(_text, text.rstrip().splitlines()), ".fi")


def _paragraphs(text: str) -> str:
    return "\n.PP\n".join(_text(" ".join(part.split())) for part in re.split(r"\n\s*\n", text.strip()))


def _see_also(this: str) -> Iterator[str]:
    others = [f"{PROGRAM}(1)", *(f"{PROGRAM}-{command}(1)" for command in ("run", "status", "send"))]
    shown = [other for other in (*others, f"{PROGRAM}-options(5)", f"{PROGRAM}-settings(5)") if other != this]
    yield ".SH SEE ALSO"
    yield ", ".join(rf"\fB{_text(other[:-3])}\fR{other[-3:]}" for other in shown)


def _text(text: str) -> str:
    """Return text in which troff reads nothing as a command."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
