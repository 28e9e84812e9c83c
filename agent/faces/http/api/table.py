"""All endpoints of the API."""

from collections.abc import Sequence
from typing import Any

from agent.faces.http.api.archives import ARCHIVE_ENDPOINTS
from agent.faces.http.api.context import Api
from agent.faces.http.api.device import DEVICE_ENDPOINTS
from agent.faces.http.api.endpoint import Endpoint
from agent.faces.http.api.jobs import JOB_ENDPOINTS
from agent.faces.http.api.streams import EVENT_ENDPOINTS
from agent.faces.http.routes import Route

ENDPOINTS: tuple[Endpoint[Any], ...] = (
    *JOB_ENDPOINTS, *EVENT_ENDPOINTS, *DEVICE_ENDPOINTS, *ARCHIVE_ENDPOINTS,
)  # fmt: skip


def api_routes(api: Api) -> Sequence[Route]:
    return [endpoint.route(api) for endpoint in ENDPOINTS]
