"""Options of a provider in which parts of the device's id stand: prefixes, and URLs."""

from collections.abc import Mapping
from functools import partial
from urllib.parse import quote

from agent.base.device_ids import fill_in
from providers.api import StorageFactory
from providers.errors import BadOptions
from providers.prefix import prefix_option

_URL = "https.url"


def options_for(options: Mapping[str, str], factory: StorageFactory, device_id: str) -> dict[str, str]:
    """Return the options with parts of the device's id filled into prefix and URL. Raises `BadOptions`."""
    filled = dict(options)
    for key in filter(None, (prefix_option(factory), _URL)):
        if text := options.get(key):
            filled[key] = filled_in(key, text, device_id)
    return filled


def filled_in(key: str, text: str, device_id: str) -> str:
    """Return the text of an option or setting with the parts of the id in it. Raises `BadOptions`."""
    try:
        return fill_in(text, device_id, partial(quote, safe="") if key == _URL else str)
    except ValueError as error:
        raise BadOptions({key: str(error)}) from error
