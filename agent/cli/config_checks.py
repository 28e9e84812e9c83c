"""The things that settings name: files, commands and providers are opened as the agent would, all at once.

Nothing is changed, and the network is not used.
"""

import ssl
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import providers
from agent.base.errors import HookFailed
from agent.base.refusals import Refused
from agent.base.text import printable
from agent.faces.http.network import file_problems
from agent.hooks import Hook, check_program, shell_words
from agent.jobs.admission import refuse_without_repositories
from agent.jobs.device import options_for
from agent.jobs.formats import encryption_for
from agent.jobs.requests.storage import configured_targets, store_storage
from agent.settings import Settings
from agent.settings.load import effective
from agent.settings.stores import ANY_DEVICE
from providers.api import Limits, StorageFactory
from providers.dial import parse_proxy
from providers.errors import StorageError
from providers.prefix import opened


def problems(settings: Settings) -> Iterator[str]:
    """Yield what keeps a part of the agent from working: a line each, without secrets."""
    yield from _certificate_problems(settings)
    yield from file_problems(settings.http)
    yield from _hook_problems(settings)
    yield from _encryption_problems(settings)
    yield from _proxy_problem(settings)
    yield from _store_problems(settings)
    paths = sorted((each.path.resolve(), name) for name, each in settings.targets.items())
    for (path, first), (again, second) in pairwise(paths):
        if path == again:
            yield f"targets.{second}.path: '{path}' is targets.{first}.path as well; keep one"


def warnings(settings: Settings) -> Iterator[str]:
    """Yield what may be meant, and mostly is a mistake."""
    if settings.dir and not settings.dir.is_dir():
        yield f"dir: '{settings.dir}' does not exist; the agent does not make it"
    for hook in _hooks(settings):
        if words := shell_words(hook):
            yield (
                f"{hook.name}: no shell reads '{words[0]}', the command gets it as an argument;"
                " write a script, and give its path"
            )
    for name, target in settings.targets.items():
        if settings.dir and target.path.resolve().is_relative_to(settings.dir.resolve()):
            yield f"targets.{name}.path: '{target.path}' is inside 'dir'; backups pass it over"


def _certificate_problems(settings: Settings) -> Iterator[str]:
    for name, path in (("caCert", settings.ca_cert), ("serverCert", settings.server_cert)):
        if path:
            yield from _tls_problem(name, path)
    if settings.cert and settings.key:
        yield from _tls_problem("cert and key", settings.cert, settings.key)
    elif settings.cert or settings.key:
        yield "cert and key: give both, or none"


def _tls_problem(name: str, path: Path, key: Path | None = None) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if key:
            # Without a password: a terminal must not be asked.
            context.load_cert_chain(path, key, password=lambda: b"")
        else:
            context.load_verify_locations(path)
    except ssl.SSLError as error:
        reason = "they do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else "no PEM file"
        yield f"{name}: '{path}' cannot be used: {reason}"
    except OSError as error:
        yield f"{name}: '{path}' cannot be read ({error.strerror})"


def _hook_problems(settings: Settings) -> Iterator[str]:
    for hook in _hooks(settings):
        try:
            check_program(hook)
        except HookFailed as error:
            yield str(error)


def _hooks(settings: Settings) -> list[Hook]:
    """Return every command that the settings name."""
    timeout_s = settings.hook_timeout.total_seconds()
    commands = {name: text for name, text in effective(settings).items() if name.endswith("Cmd") and text}
    return [Hook(name, str(command), timeout_s) for name, command in commands.items()]


def _encryption_problems(settings: Settings) -> Iterator[str]:
    try:
        encryption_for(None, None, settings.encryption)
    except Refused as refused:
        yield f"encryption.recipients: {refused.message}"


def _proxy_problem(settings: Settings) -> Iterator[str]:
    if url := settings.transfer.proxy.get_secret_value():
        try:
            parse_proxy(url)
        except StorageError:
            yield "transfer.proxy: must be an http:// URL, with what is special in a password percent-encoded"


def _store_problems(settings: Settings) -> Iterator[str]:
    limits = Limits(targets=configured_targets(settings))
    for name, store in settings.stores.items():
        try:
            chosen = store_storage(settings, name)
            found = providers.factory
            if chosen.repository:
                refuse_without_repositories()
                found = providers.repository_factory
            factory = found(store.provider)
            yield from _unknown_options(name, chosen.options, factory)
            device_id = settings.device_id or ANY_DEVICE
            opened(factory, options_for(chosen.options, factory, device_id), limits).close()
        except Refused as refused:
            yield f"stores.{name}: {refused.message}"
        except (StorageError, providers.MissingExtra) as error:
            yield f"stores.{name}: {error}"


def _unknown_options(name: str, options: Iterable[str], factory: StorageFactory) -> Iterator[str]:
    """Yield a problem for each option that the provider does not read: it reads those with its own prefix."""
    own = "https." if factory.kind == "generic" else (factory.name_option or "").partition(".")[0]
    for key in sorted(options) if own else ():
        if not key.startswith(own):
            yield f"stores.{name}: '{printable(key)}' is no option of provider '{factory.kind}'; remove it"
