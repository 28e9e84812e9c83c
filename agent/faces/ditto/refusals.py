"""The status and the error code with which Ditto is told of a refusal (docs/wire.md, "Refusals")."""

from agent.base.refusals import Reason, Refused
from agent.mqtt.envelope import Error

PARAMETER_INVALID = "messages:parameter.invalid"
"""The request itself is wrong."""
EXECUTION_FAILED = "messages:execution.failed"
"""The device refuses, or cannot."""

_ANSWERS = {
    Reason.INVALID: (400, PARAMETER_INVALID),
    Reason.CANNOT: (400, EXECUTION_FAILED),
    Reason.FORBIDDEN: (403, EXECUTION_FAILED),
    Reason.NOT_FOUND: (404, PARAMETER_INVALID),
    Reason.EXPIRED: (408, EXECUTION_FAILED),
    Reason.BUSY: (409, EXECUTION_FAILED),
    Reason.INTERNAL: (500, EXECUTION_FAILED),
    Reason.UNAVAILABLE: (507, EXECUTION_FAILED),
}


def error_of(refused: Refused) -> Error:
    status, code = _ANSWERS[refused.reason]
    return Error(status, code, refused.message)
