"""Forms in the documents' requests, names that are not known, and refusals in the words of a document."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import parse_qsl

from agent.base.refusals import Refused
from agent.base.text import readable
from agent.faces.http.message import Problem, Request

FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 32


def require_form(request: Request) -> None:
    """Raise `Problem` 415 for a body of another type, or of none."""
    if request.content_type != FORM:
        raise Problem(415, f"the body must have the content type {FORM}")


def form_fields(text: bytes | str) -> dict[str, str]:
    """Return the fields of a form. Raises `Problem` 400, also for one that comes twice."""
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        pairs = parse_qsl(decoded, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict")
    except ValueError:
        raise Problem(400, f"the form cannot be read: at most {MAX_FIELDS} fields, in UTF-8") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise Problem(400, "a field comes twice")
    return fields


def refuse_unknown(names: Mapping[str, object], known: Collection[str]) -> None:
    """Raise `Problem` 400 for a name that is not known: who misspells a choice must not get another one."""
    if unknown := sorted(names.keys() - set(known)):
        raise Problem(400, f"'{readable(unknown[0])}' is unknown; possible are: {', '.join(sorted(known))}")


@contextmanager
def in_words(words: Mapping[str, str]) -> Iterator[None]:
    """Replace options of the wire in the message of a `Refused` by `words`, which its client knows."""
    try:
        yield
    except Refused as refused:
        message = refused.message
        for option, word in words.items():
            message = message.replace(f"option '{option}'", f"'{word}'")
        raise Refused(refused.reason, message) from refused
