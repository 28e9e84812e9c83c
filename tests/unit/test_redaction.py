"""No secret survives on its way into a log line, wherever in the line it travels."""

import json
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.redaction import HIDDEN, holds_secret, is_secret_name, redact, redact_text, secret_values

# As long and as odd as real ones; a short one could be part of the text around it.
SECRETS = st.text(alphabet=string.ascii_letters + string.digits + "+/=_-%.~", min_size=12, max_size=60).map(
    "Zq9".__add__
)
SECRET_NAMES = st.sampled_from(
    [
        *("password", "Password", "https.header.Authorization", "aws.secret.access.key", "aws.access.key.id"),
        *("aws.session.token", "azure.shared.access.signature", "sas", "X-Amz-Signature", "sig", "Cookie"),
        *("client_secret", "accessKey", "api-key", "proxy_password", "credentials"),
        *("backup.passcode", "restore.passcode", "restore.identity"),
    ]
)
PLAIN_NAMES = st.sampled_from(
    ["event", "url", "options", "reason", "correlation_id", "key", "design", "signal"]
)


def nested_in(leaf: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """`leaf` at any depth of mappings and lists."""
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.tuples(inner)
            | st.dictionaries(PLAIN_NAMES, inner, min_size=1, max_size=3)
        ),
        max_leaves=4,
    )


@given(st.data(), SECRETS)
def test_a_value_under_a_secret_name_is_hidden_at_any_depth(data: st.DataObject, secret: str) -> None:
    leaf = st.builds(lambda name: {name: secret}, SECRET_NAMES)
    value = data.draw(nested_in(leaf))
    assert secret not in json.dumps(redact({"options": value}))


@given(st.data(), SECRETS)
def test_a_secret_inside_a_text_is_hidden_at_any_depth(data: st.DataObject, secret: str) -> None:
    leaf = st.sampled_from(
        [
            f"PUT https://bucket.example/key?X-Amz-Signature={secret}&x=1 failed",
            f"'https://account.blob.core.windows.net/c/b?sv=2020&sig={secret}'",
            f"/container/blob?{secret}",
            f"https://user:{secret}@host/path",
            f"http://{secret}@proxy:3128",
            f"Authorization: Bearer {secret}",
            f"{{'authorization': 'AWS4-HMAC-SHA256 Credential=x, Signature={secret}'}}",
            f"password={secret}",
            f"option 'restore.passcode': {secret}",
            f"AGE-SECRET-KEY-{''.join(filter(str.isalnum, secret))}",
            f'"aws.secret.access.key": "{secret}"',
            f"token: {secret}",
        ]
    )
    value = data.draw(nested_in(leaf))
    assert secret not in json.dumps(redact(value, "event"))


@given(st.text(max_size=200))
def test_any_text_can_be_redacted(text: str) -> None:
    assert isinstance(redact_text(text), str)


@pytest.mark.parametrize(
    "text",
    [
        "backup of /var/lib/app finished: 12 files, 3 left out",
        "What now? Nothing.",
        "https://host/path/archive.zip",
        "connected to tcp://localhost:1883",
        "option 'aws.secret.access.key' is missing",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name", ["correlation_id", "key", "aws.object.key", "design", "signal", "passed", "event"]
)
def test_ordinary_names_are_not_secret(name: str) -> None:
    assert not is_secret_name(name)


def test_that_a_secret_is_absent_may_be_seen() -> None:
    assert redact({"password": "", "token": None, "has_secret": True}) == {
        "password": "",
        "token": None,
        "has_secret": True,
    }
    assert redact({"password": "x"}) == {"password": HIDDEN}


@pytest.mark.parametrize("beginning", ["password", "://", "sig", "authorization", "?", "secret.key"])
def test_a_long_text_takes_time_in_proportion_only(beginning: str) -> None:
    """Of what each pattern begins with: one that backtracks takes 64 times as long for 8 times the text."""

    def needed_s(size: int) -> float:
        """The processor's time, which does not depend on what else the machine does."""
        text = beginning * (size // len(beginning))
        times = []
        for _ in range(3):
            began_s = time.thread_time()
            redact_text(text)
            times.append(time.thread_time() - began_s)
        return min(times)

    assert needed_s(1 << 15) < 24 * needed_s(1 << 12) + 0.01


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"azure.shared.access.signature": "sv=2024-11-04&sig=abc%2Bdefghijklm"}, "x abc+defghijklm x"),
        ({"azure.shared.access.signature": "sv=2024-11-04&sig=abc%2Bdefghijklm"}, "sig=abc%2Bdefghijklm"),
        ({"https.url": "https://h/a?X-Amz-Signature=0123456789abcdef&x=1"}, "0123456789abcdef"),
        ({"https.url": "https://user:long-password@h/a"}, "long-password"),
        ({"https.url": "https://user:long-password@h/a"}, "Basic dXNlcjpsb25nLXBhc3N3b3Jk"),
        ({"https.header.Authorization": "Bearer 0123456789ab"}, "0123456789ab"),
        ({"aws.session.token": "0123456789ab"}, "%30123456789ab"),
    ],
)
def test_a_secret_that_somebody_repeats_is_recognized(options: dict[str, str], text: str) -> None:
    assert holds_secret(f"W/{text}-1", secret_values(options))


@pytest.mark.parametrize(
    "text", ["", "d41d8cd98f00b204e9800998ecf8427e-12", "0x8DB0123456789AB", "sr=c", "h", "/a"]
)
def test_an_etag_of_a_good_server_repeats_nothing(text: str) -> None:
    options = {
        "azure.shared.access.signature": "sv=2024-11-04&sr=c&sig=abc%2Bdefghijklm",
        "https.url": "https://h/a?x=1",
        "https.header.X": "h",
        "aws.object.key": "d41d8cd98f00b204e9800998ecf8427e-12",
    }
    assert not holds_secret(text, secret_values(options))
