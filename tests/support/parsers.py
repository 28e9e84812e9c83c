"""The parsers of the command line, as `--help` has them: manual pages and completions are made from these."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from agent.cli import SUBCOMMANDS, main


class _Asked(BaseException):
    """A command has made its parser, and is about to read its arguments with it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def main_parser() -> argparse.ArgumentParser:
    """Return the parser of `edge-backup` itself."""
    return _made_by(lambda: main([]))


def parser_of(command: str) -> argparse.ArgumentParser:
    """Return the parser of `edge-backup <command>`."""
    return _made_by(lambda: SUBCOMMANDS[command]([]))


def _made_by(run: Callable[[], object]) -> argparse.ArgumentParser:
    with _reading_raises():
        try:
            run()
        except _Asked as asked:
            return asked.parser
    raise AssertionError("the command read no arguments")


@contextmanager
def _reading_raises() -> Iterator[None]:
    """Let every parser raise itself where it would read arguments; until there commands run as always."""

    def raise_itself(parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        raise _Asked(parser)

    read = argparse.ArgumentParser.parse_known_args
    argparse.ArgumentParser.parse_known_args = raise_itself  # type: ignore[assignment]
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_known_args = read  # type: ignore[method-assign]
