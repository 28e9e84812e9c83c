"""Answers that come in pages."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from providers.aws.errors import errors
from providers.errors import translating

Page = Mapping[str, Any]


def first_pages(paginator: Iterable[Page], place: str, most: int) -> Iterator[Page]:
    """Yield `most` pages at most: for what a cancel does not end. Raises `StorageError`."""
    return islice(pages(paginator, place, lambda: None), most)


def pages(paginator: Iterable[Page], place: str, check: Callable[[], None]) -> Iterator[Page]:
    """Yield page after page, and call `check` before each: a store may say for ever that there are more.

    Raises `StorageError`, and what `check` raises.
    """
    rest = iter(paginator)
    while True:
        check()
        with translating(errors(place)):
            page = next(rest, None)
        if page is None:
            return
        yield page
