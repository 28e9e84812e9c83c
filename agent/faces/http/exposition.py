"""`GET /metrics`: the numbers of the text file for Prometheus, which reads them here itself."""

from collections.abc import Callable, Sequence

from agent.faces.http.engine_gate import EngineGate
from agent.faces.http.message import Request, Response
from agent.faces.http.routes import Route

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_routes(gate: EngineGate, text: Callable[[], str]) -> Sequence[Route]:
    """`text` is called in the main thread."""

    def metrics(_request: Request) -> Response:
        return Response(200, {"Content-Type": CONTENT_TYPE}, gate.call(text).encode())

    return (Route("GET", "/metrics", metrics),)
