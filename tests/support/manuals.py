"""Manual pages (man(7)) of the commands, from their parsers."""

import argparse
import re
from collections.abc import Iterable, Iterator

from agent import RELEASED, __version__
from agent.cli import SUBCOMMANDS
from tests.support.parsers import main_parser, parser_of

PROGRAM = "edge-backup"


def manuals() -> dict[str, str]:
    """Return the page of every command, and that of the program, by file name."""
    pages = {f"{PROGRAM}-{name}.1": page(parser_of(name), each.help) for name, each in SUBCOMMANDS.items()}
    return {f"{PROGRAM}.1": page(main_parser(), "backup and restore agent for edge devices"), **pages}


def page(parser: argparse.ArgumentParser, purpose: str) -> str:
    """Return the manual page of a command; `purpose` is a phrase for the list of all manual pages."""
    name = parser.prog.replace(" ", "-")
    return "\n".join(
        [
            f'.TH {name.upper()} 1 {RELEASED:%Y-%m-%d} "{PROGRAM} {__version__}"',
            *(".SH NAME", f"{_text(name)} \\- {_text(purpose)}"),
            *(".SH SYNOPSIS", _text(_usage(parser))),
            *(".SH DESCRIPTION", _paragraphs(parser.description or "")),
            *_options(parser),
            *_epilog(parser),
            *_see_also(name),
            "",
        ]
    )


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
        yield "\n".join([".nf", *map(_text, parser.epilog.rstrip().splitlines()), ".fi"])
    else:
        yield _paragraphs(parser.epilog)


def _paragraphs(text: str) -> str:
    return "\n.PP\n".join(_text(" ".join(part.split())) for part in re.split(r"\n\s*\n", text.strip()))


def _see_also(name: str) -> Iterable[str]:
    others = [PROGRAM, *(f"{PROGRAM}-{command}" for command in ("run", "status", "send"))]
    yield ".SH SEE ALSO"
    yield ", ".join(rf"\fB{_text(other)}\fR(1)" for other in others if other != name)


def _text(text: str) -> str:
    """Return text in which troff reads nothing as a command."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
