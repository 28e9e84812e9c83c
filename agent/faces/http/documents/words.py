"""Refusals in a document's words: the engine names options of the wire, which its client has never seen."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from agent.base.refusals import Refused


@contextmanager
def in_words(words: Mapping[str, str]) -> Iterator[None]:
    """Replace the options in the message of a `Refused` by `words`."""
    try:
        yield
    except Refused as refused:
        message = refused.message
        for option, word in words.items():
            message = message.replace(f"option '{option}'", f"'{word}'")
        raise Refused(refused.reason, message) from refused
