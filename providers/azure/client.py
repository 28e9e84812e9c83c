"""An Azure client with the command's SAS only, over the provider's own connections."""

import logging
from collections.abc import Mapping

import requests
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import ContainerClient
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import PoolManager

from providers.api import Limits
from providers.pool import MOST_MARKS, control_answer, send_request

# Its lines hold URLs, and with them the signature.
logging.getLogger("azure").setLevel(logging.CRITICAL)


def make_client(given: Mapping[str, str], pool: PoolManager, limits: Limits) -> ContainerClient:
    session = requests.Session()
    session.trust_env = False  # no proxy, no authorities and no .netrc from the environment
    for scheme in ("http://", "https://"):
        session.mount(scheme, _PoolAdapter(pool, limits))
    return ContainerClient(
        given["azure.storage.endpoint"].rstrip("/"),
        given["azure.blob.container"],
        credential=given["azure.shared.access.signature"].removeprefix("?"),
        transport=RequestsTransport(session=session),
        retry_total=0,  # the SDK's own ten attempts take 80 s to report a refused connection
        permit_redirects=False,
    )


class _PoolAdapter(BaseAdapter):
    """Lets the SDK's HTTP library, requests, send over `pool`."""

    def __init__(self, pool: PoolManager, limits: Limits) -> None:
        super().__init__()
        self._pool, self._limits = pool, limits
        self._builder = HTTPAdapter()

    def send(
        self, request: requests.PreparedRequest, *_args: object, **_settings: object
    ) -> requests.Response:
        assert isinstance(request.method, str)
        assert isinstance(request.url, str)
        assert request.body is None or isinstance(request.body, bytes)
        headers = {name: str(value) for name, value in request.headers.items()}
        headers["Accept-Encoding"] = "identity"
        reply = send_request(self._pool, request.method, request.url, headers, request.body)
        # A list of blocks may have 50,000 entries ("Put Block List") of seven marks.
        most_marks = 500_000 if "comp=blocklist" in request.url else MOST_MARKS
        return self._builder.build_response(request, control_answer(reply, self._limits, most_marks))

    def close(self) -> None:
        self._pool.clear()
