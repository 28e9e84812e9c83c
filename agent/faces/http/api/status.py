"""How things stand: `GET /api/v1/status`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agent.faces.http.engine_gate import EngineGate
from agent.faces.http.face_of import face_of
from agent.faces.http.message import Request, Response
from agent.faces.http.routes import Route


def status_routes(gate: EngineGate) -> Sequence[Route]:
    def status(request: Request) -> Response:
        return json_response(gate.ask("status", None, face_of(request.peer)))

    return (Route("GET", "/api/v1/status", status),)


def json_response(value: Mapping[str, Any], code: int = 200) -> Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
    return Response(code, {"Content-Type": "application/json"}, body)
