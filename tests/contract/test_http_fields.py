"""Header fields and addresses: examples from the specifications, and anything at all."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.address import parse_address, redirected
from providers.http_fields import ContentRange, content_range, digest, retry_after_s, validator

NOW = datetime(2026, 11, 21, 22, 28, 8, tzinfo=UTC)
FIELDS = st.dictionaries(
    st.sampled_from(["retry-after", "date", "etag", "last-modified", "digest", "repr-digest", "content-md5"]),
    st.text(max_size=60) | st.datetimes().map(lambda when: format_datetime(when.replace(tzinfo=UTC))),
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes 0-499/1234", ContentRange(0, 499, 1234)),
        ("Bytes 734-1233/1234", ContentRange(734, 1233, 1234)),
        ("bytes 42-1233/*", ContentRange(42, 1233, None)),
        ("bytes */1234", ContentRange(None, None, 1234)),
        ("bytes 500-499/1234", None),
        ("bytes 0-1234/1234", None),
        ("bytes 0-/1234", None),
        ("bytes ٠-٩/١٠", None),
        ("items 0-1/2", None),
        ("", None),
    ],
)
def test_content_range_of_rfc_9110_14_4(value: str, expected: ContentRange | None) -> None:
    assert content_range(value) == expected


@given(st.integers(0, 10**12), st.integers(1, 10**12), st.integers(0, 10**12) | st.none())
def test_every_possible_content_range_is_read(first: int, length: int, more: int | None) -> None:
    last = first + length - 1
    total = None if more is None else last + 1 + more
    text = f"bytes {first}-{last}/{'*' if total is None else total}"
    assert content_range(text) == ContentRange(first, last, total)


@pytest.mark.parametrize(
    ("fields", "expected_s"),
    [
        ({"retry-after": "120"}, 120),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "Sat, 21 Nov 2026 22:29:08 GMT"}, 60),
        ({"retry-after": "Sat, 21 Nov 2026 22:00:00 GMT"}, 0),
        # A device whose clock is a year behind asks the far side's clock instead.
        ({"retry-after": "Sun, 21 Nov 2027 22:29:08 GMT", "date": "Sun, 21 Nov 2027 22:28:08 GMT"}, 60),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "9" * 400}, None),
        ({}, None),
    ],
)
def test_retry_after_of_rfc_9110_10_2_3(fields: dict[str, str], expected_s: float | None) -> None:
    assert retry_after_s(fields, NOW) == expected_s


def test_a_strong_etag_continues_a_download_and_a_weak_one_does_not() -> None:
    assert validator({"etag": '"abc"'}) == '"abc"'
    assert validator({"etag": 'W/"abc"'}) == ""
    assert validator({"etag": "abc"}) == ""
    assert validator({}) == ""


def test_a_modification_date_continues_a_download_once_it_is_older_than_the_answer() -> None:
    modified = format_datetime(NOW, usegmt=True)
    answered = format_datetime(NOW + timedelta(seconds=1), usegmt=True)
    assert validator({"last-modified": modified, "date": answered}) == modified
    assert validator({"last-modified": modified, "date": modified}) == ""
    assert validator({"last-modified": modified}) == ""


def test_the_strongest_digest_of_the_content_is_found() -> None:
    md5, sha256 = hashlib.md5(b"x").digest(), hashlib.sha256(b"x").digest()
    md5_text, sha256_text = base64.b64encode(md5).decode(), base64.b64encode(sha256).decode()
    assert digest({"content-md5": md5_text}) == ("md5", md5)
    assert digest({"digest": f"MD5={md5_text},SHA-256={sha256_text}"}) == ("sha256", sha256)
    assert digest({"repr-digest": f"sha-256=:{sha256_text}:"}) == ("sha256", sha256)
    assert digest({"digest": "sha-256=AAAA", "content-md5": "not base64"}) is None
    assert digest({}) is None


@given(FIELDS, st.text(max_size=40))
def test_no_header_field_makes_a_parser_raise(fields: dict[str, str], text: str) -> None:
    wait_s = retry_after_s(fields, NOW)
    assert wait_s is None or wait_s >= 0
    assert validator(fields) in ("", *(value.strip() for value in fields.values()))
    found = digest(fields)
    assert found is None or len(found[1]) == {"md5": 16, "sha256": 32}[found[0]]
    content_range(text)


# -- addresses ----------------------------------------------------------------------------------------


def test_an_address_shows_people_neither_query_nor_credentials() -> None:
    address = parse_address("https://user:pass%20word@Example.com/a%20b/ü?sig=s3cret#frag")
    assert address.location == "https://example.com/a%20b/%C3%BC"
    assert address.target == "/a%20b/%C3%BC?sig=s3cret"
    assert address.authorization == "Basic " + base64.b64encode(b"user:pass word").decode()
    assert "s3cret" not in repr(address)
    assert address.authorization not in repr(address)


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://host", "http://host"),
        ("http://host:80/", "http://host"),
        ("https://host:80/", "https://host:80"),
        ("https://[::1]:8443/x", "https://[::1]:8443"),
    ],
)
def test_a_port_is_shown_unless_it_is_the_schemes_own(url: str, base: str) -> None:
    assert parse_address(url).base == base


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host/path",
        "ftp://host/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://host:0/",
        "http://host:99999/",
        "http://host:port/",
        "http://ho st/",
        "http://host/a b",
        "http://host/\r\nX: y",
        "http://[::1/",
        f"http://{'a' * 64}.example/",
        "http://a..b/",
    ],
)
def test_what_is_no_http_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_address(url)


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda text: f"http://user:{text}@host/{text}?{text}"))
def test_any_text_is_an_address_that_can_be_sent_or_a_value_error(url: str) -> None:
    try:
        address = parse_address(url)
    except ValueError:
        return
    assert address.target.startswith("/") or address.target.startswith("?")
    assert not set(address.target) & {" ", "\r", "\n", "#"}
    assert address.target.isascii()
    assert parse_address(address.base + address.target).target == address.target


def test_a_redirect_within_the_origin_keeps_the_credentials() -> None:
    address = parse_address("http://u:p@host/a/b?q=1")
    assert redirected(address, "../c?d").location == "http://host/c"
    assert redirected(address, "../c?d").authorization == address.authorization
    assert redirected(address, "http://HOST:80/c").authorization == address.authorization


@pytest.mark.parametrize(
    "location", ["http://other/a/b", "https://host/a/b", "http://host:81/a/b", "//other/a"]
)
def test_a_redirect_to_another_origin_loses_the_credentials(location: str) -> None:
    assert redirected(parse_address("http://u:p@host/a/b"), location).authorization == ""
