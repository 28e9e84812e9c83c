"""Formats of document 002: a value or an error as HTML, JSON or indented JSON."""

import json
from collections.abc import Mapping
from typing import Any

from agent.faces.http.documents.bodies import FORM, form_fields
from agent.faces.http.message import JSON, Problem, Request, Response

FORMATS = ("html", "json", "pjson")


def token_in(request: Request) -> str | None:
    """Return the token in the form of a POST or in the query of a GET; None without one."""
    return _tolerant(request).get("token")


def check_format(request: Request) -> None:
    """Raise `Problem` 400 for a format that does not exist, before anything is done."""
    if _tolerant(request).get("f", "") not in ("", *FORMATS):
        raise Problem(400, f"'f' must be one of: {', '.join(FORMATS)}")


def answer(request: Request, title: str, value: Mapping[str, Any]) -> Response:
    return _written(request, title, value, 200)


def problem_answer(request: Request, problem: Problem) -> Response:
    """Word a problem as this document does."""
    error = {"code": problem.status, "message": problem.detail, "details": []}
    written = _written(request, "Error", {"error": error}, problem.status)
    return Response(written.status, {**written.headers, **problem.headers}, written.body)


def _written(request: Request, title: str, value: Mapping[str, Any], status: int) -> Response:
    form = _tolerant(request).get("f")
    if form not in ("json", "pjson"):
        return Response(status, {"Content-Type": "text/html; charset=utf-8"}, _page(title, value))
    indent, separators = (2, (",", ": ")) if form == "pjson" else (None, (",", ":"))
    text = json.dumps(value, indent=indent, separators=separators, ensure_ascii=False)
    return Response(status, {"Content-Type": JSON}, text.encode("utf-8", "replace"))


def _tolerant(request: Request) -> Mapping[str, str]:
    """Return the parameters; those that can be read of a request that will be refused for the others.

    Those of a POST are in its body, but its query may name the format.
    """
    query = _fields(request.query)
    if request.method != "POST":
        return query
    form = {name: text for name, text in query.items() if name == "f"}
    return form | (_fields(request.body) if request.content_type == FORM else {})


def _fields(text: bytes | str) -> dict[str, str]:
    try:
        return form_fields(text)
    except Problem:
        return {}


_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;"})
"""As `html.escape` has them, whose module takes a third of a MiB for the names of all others."""


def escape(text: str) -> str:
    return text.translate(_ENTITIES)


def _page(title: str, value: Mapping[str, Any]) -> bytes:
    heading = escape(title)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{heading}</title></head>\n'
        f"<body><h1>{heading}</h1>\n{_shown(value)}\n</body></html>\n"
    )
    return page.encode("utf-8", "replace")


def _shown(value: Any) -> str:
    """Return a value as HTML. Names on this device may be anything: all text is escaped."""
    if isinstance(value, Mapping):
        rows = (f"<dt>{escape(str(key))}</dt><dd>{_shown(each)}</dd>" for key, each in value.items())
        return f"<dl>{''.join(rows)}</dl>"
    if isinstance(value, list):
        return f"<ol>{''.join(f'<li>{_shown(each)}</li>' for each in value)}</ol>"
    return escape(value if isinstance(value, str) else json.dumps(value))
