"""Stores: destinations that the settings name, each a provider with its options except the secret ones."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator

import providers
from agent.base.device_ids import fill_in
from agent.base.redaction import is_secret_name, redact_text
from agent.settings.kinds import ValueKind
from providers.errors import BadOptions
from providers.prefix import check_prefix, prefix_option

if TYPE_CHECKING:
    from agent.settings import Settings
    from agent.settings.group_defaults import StoreSettings

ANY_DEVICE = "namespace:name"
"""Stands for the device's id while prefixes are checked."""
REST_SERVER_ONLY = (
    "must end in '/' and lead to a REST server of restic:"
    " a repository has many objects, and any other URL names one"
)
NO_RECIPIENTS = (
    "a repository is encrypted by its own password, not for encryption.recipients:"
    " use format zip, or no recipients"
)
NOT_OF_A_STORE = ("backup.", "restore.", "storage.", "options.", "info.", "history.", "archives.")
"""Beginnings of options that belong to a command, not to a provider."""


def option_texts(value: object) -> dict[str, str]:
    """Return options of a provider by key, as on the wire: numbers and booleans become their text.

    Takes an object, or a text with its JSON. Raises ValueError for anything else.
    """
    if isinstance(value, str):
        value = json.loads(value) if value else {}
    if not isinstance(value, Mapping):
        raise ValueError("not an object")
    texts = {str(key): _text(item) for key, item in value.items()}
    return {key: text for key, text in texts.items() if text}


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise ValueError("not a text")
    return str(value)


StoreOptions = Annotated[
    dict[str, str],
    BeforeValidator(option_texts),
    ValueKind("object", "an object with options as in a command, but no secret ones", secret=True),
]


def store_problems(settings: "Settings") -> Iterator[str]:
    """Yield the problems of stores and of the settings that name one: a line each, without secrets."""
    for name, store in settings.stores.items():
        yield from _problems(f"stores.{name}", store)
        if store.format == "repository":
            yield from _repository_problems(f"stores.{name}", store, settings)
        elif store.prefix:
            yield f"stores.{name}.prefix: is for stores.{name}.format repository alone; leave it out"
    known = ", ".join(sorted(settings.stores)) or "none is configured"
    if settings.verify.period and not settings.verify.store:
        yield f"verify.store: is missing; expected one of the stores ({known}), because of verify.period"
    chosen = [("verify.store", settings.verify.store)]
    for name, each in settings.schedules.items():
        chosen += [(f"schedules.{name}.store", store_name) for store_name in each.store]
    for key, store_name in chosen:
        if store_name and store_name not in settings.stores:
            yield f"{key}: expected one of the stores ({known})"


def _problems(where: str, store: "StoreSettings") -> Iterator[str]:
    try:
        key = prefix_option(providers.factory(store.provider))
        if key and (prefix := store.options.get(key)):
            yield from _prefix_problems(where, key, prefix)
    except BadOptions:
        yield f"{where}.provider: expected one of {', '.join(providers.names())}"
    except providers.MissingExtra:
        pass  # a command that names the store says so
    for key, text in sorted(store.options.items()):
        if key.startswith(NOT_OF_A_STORE):
            yield f"{where}.options: '{key}' is no option of a provider"
        elif is_secret(key, text):
            yield f"{where}.options: '{key}' is a secret; put it into the file of {where}.credentials"


def _prefix_problems(where: str, key: str, prefix: str) -> Iterator[str]:
    try:
        check_prefix(fill_in(prefix, ANY_DEVICE), key)
    except BadOptions as error:
        yield f"{where}.options: '{key}' {error.problems[key]}"


def _repository_problems(where: str, store: "StoreSettings", settings: "Settings") -> Iterator[str]:
    try:
        factory = providers.repository_factory(store.provider)
    except providers.MissingExtra:
        factory = None
    except BadOptions:
        factory = None
        if store.provider in providers.names():
            yield f"{where}.format: provider '{store.provider}' cannot keep a repository"
    if factory and factory.name_option in store.options:
        yield f"{where}.options: '{factory.name_option}' names one archive; a repository has {where}.prefix"
    if not store.options.get("https.url", "/").endswith("/"):
        yield f"{where}.options: 'https.url' {REST_SERVER_ONLY}"
    if not store.credentials:
        yield f"{where}.credentials: is missing; the file has to hold the repository's 'password'"
    if settings.encryption.recipients:
        yield f"{where}.format: {NO_RECIPIENTS}"
    try:
        if store.prefix:
            check_prefix(fill_in(store.prefix, ANY_DEVICE), "prefix")
    except BadOptions as error:
        yield f"{where}.prefix: {error.problems['prefix']}"


def is_secret(key: str, text: str) -> bool:
    """Return True for a secret option: by its name, or as a URL with a user or a query."""
    return is_secret_name(key) or redact_text(text) != text
