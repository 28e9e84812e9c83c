"""Options of a command, as providers read them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import BadOptions
from providers.options import HTTP_URL, Option, checked

KNOWN = {"x.name": Option(r"[a-z]+", "lower-case letters", required=True), "x.size": Option(r"\d+", "digits")}


def problems(options: dict[str, str]) -> dict[str, str]:
    with pytest.raises(BadOptions) as raised:
        checked(options, "x.", KNOWN)
    return raised.value.problems


def test_an_empty_value_means_absent() -> None:
    assert checked({"x.name": "a", "x.size": "", "x.unknown": ""}, "x.", KNOWN) == {"x.name": "a"}


def test_every_problem_is_named_at_once() -> None:
    assert problems({"x.size": "many", "x.zise": "1", "y.name": "b"}) == {
        "x.name": "is missing",
        "x.size": "must be digits",
        "x.zise": "is unknown; known are x.name, x.size",
    }


@given(
    st.dictionaries(
        st.sampled_from(["x.name", "x.size", "x.else"]), st.from_regex(r"[A-Z]{9}", fullmatch=True)
    )
)
def test_no_value_is_ever_shown(options: dict[str, str]) -> None:
    text = str(problems(options))
    assert not [value for value in options.values() if value in text]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "https://",
        "https://user:pw@host/",
        "https://host/?sig=x",
        "https://host/#x",
        "host",
        "http://a b",
        "http://host:99999",
        "http://[::1",
    ],
)
def test_urls_with_secrets_or_without_a_host_are_refused(url: str) -> None:
    with pytest.raises(BadOptions):
        checked({"x.url": url}, "x.", {"x.url": HTTP_URL})
