"""Removal of secrets from what is logged.

A value is replaced when its name is that of a secret. In a text, the query and the user part of a URL are
replaced, and the value in `name=value` and `Name: value` with the name of a secret.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from urllib.parse import unquote

HIDDEN = "***"
_WORDS = (
    *("passw", "passphrase", "passcode", "restore[._-]identity"),
    *("secret", "token", "signature", "authori[sz]ation", "credential", "cookie"),
    *("private[._-]?key", "access[._-]?key", "api[._-]?key", "shared[._-]?access", "x-amz-security"),
)
_SECRET_NAME = re.compile("|".join((*_WORDS, r"(^|[._-])(sas|sig|pwd)($|[._-])")), re.IGNORECASE)
# What follows a question mark without a space in between: the query of a URL, however it is quoted.
_QUERY = re.compile(r"\?[^\s\"'<>]+")
# Up to the last @ of the word, for passwords with a slash in them; bounded, to stay linear.
_USER_OF_URL = re.compile(r"(?<=://)[^\s\"'<>]{1,300}@")
# A header takes the rest of its line, because schemes such as Basic are words of their own.
_HEADER = re.compile(r"((?:authori[sz]ation|cookie)[\"']?\s*[:=]\s*)[^\r\n]+", re.IGNORECASE)
_ASSIGNMENT = re.compile(
    rf"((?:{'|'.join(_WORDS)}|\b(?:sas|sig|pwd))[\w.\-]{{0,40}}[\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&\"']+)",
    re.IGNORECASE,
)


_PRIVATE_KEY = re.compile(r"AGE-SECRET-KEY-[\w-]+", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Return True when values of this name are secret: `aws.secret.access.key`, `Authorization`."""
    return _SECRET_NAME.search(name) is not None


def has_private_key(text: str) -> bool:
    """Return True when a private key of age is somewhere in the text."""
    return _PRIVATE_KEY.search(text) is not None


def redact_text(text: str) -> str:
    """Return `text` without URL queries, user parts of URLs, and values behind names of secrets."""
    text = _HEADER.sub(rf"\1{HIDDEN}", text)
    text = _USER_OF_URL.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(f"?{HIDDEN}", text)
    text = _PRIVATE_KEY.sub(HIDDEN, text)
    return _ASSIGNMENT.sub(rf"\1{HIDDEN}", text)


def redact(value: object, name: str = "") -> object:
    """Return `value`, which is logged under `name`, without secrets. Mappings and lists are copied."""
    if name and is_secret_name(name) and value not in (None, "", True, False):
        return HIDDEN
    match value:
        case None | bool() | int() | float():
            return value
        case bytes():
            return redact_text(value.decode("utf-8", "replace"))
        case Mapping():
            return {str(key): redact(item, str(key)) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [redact(item) for item in value]
        case _:
            return redact_text(str(value))


_SHORTEST_SECRET = 12
"""A shorter one may occur in a text by chance."""


def secret_values(options: Mapping[str, str]) -> frozenset[str]:
    """Return the secrets in the options of a command, whole and in parts that a far side may repeat."""
    values = {
        part
        for key, value in options.items()
        if is_secret_name(key) or "://" in value or key.startswith("https.header.")
        for part in _parts(value)
    }
    return frozenset(value for value in values if len(value) >= _SHORTEST_SECRET)


def holds_secret(text: str, secrets: frozenset[str]) -> bool:
    """Return True when a foreign text repeats one of the secrets, percent-encoded or not."""
    return any(secret in form for secret in secrets for form in (text, unquote(text)))


def _parts(value: str) -> Iterator[str]:
    """Yield the secret, or those in a URL: its user part, its query, and the values in its query."""
    _, is_url, rest = value.partition("://")
    user, _, _ = rest.partition("/")[0].rpartition("@")
    _, _, query = rest.partition("?")
    found = [user, *user.split(":"), query] if is_url else [value, *value.split(), query]
    found += [part.partition("=")[2] for part in re.split("[?&]", query if is_url else value)]
    for part in found:
        yield part
        yield unquote(part)
    if user:
        yield base64.b64encode(unquote(user).encode()).decode()
