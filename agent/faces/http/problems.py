"""Problem documents (RFC 9457), and the status of each of the engine's refusals."""

import json
from http import HTTPStatus

from agent.base.refusals import Reason, Refused
from agent.faces.http.message import Problem, Request, Response

PROBLEM_JSON = "application/problem+json"
BUSY_RETRY_S = 10
"""When a client that was refused because of a running job may ask again."""

_STATUS = {
    Reason.INVALID: 400,
    Reason.CANNOT: 422,
    Reason.FORBIDDEN: 403,
    Reason.NOT_FOUND: 404,
    Reason.EXPIRED: 410,
    Reason.BUSY: 409,
    Reason.INTERNAL: 500,
    Reason.UNAVAILABLE: 507,
}


def problem_of(refused: Refused) -> Problem:
    headers = {"Retry-After": str(BUSY_RETRY_S)} if refused.reason is Reason.BUSY else {}
    return Problem(_STATUS[refused.reason], refused.message, headers)


def problem_document(_request: Request, problem: Problem) -> Response:
    """Word a problem as RFC 9457 has it: its type is `about:blank`, so the title is that of the status."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
    }
    headers = {"Content-Type": PROBLEM_JSON, **problem.headers}
    return Response(problem.status, headers, json.dumps(document).encode())
