"""Another agent that answers in our name is noticed; our own answers are not mistaken for one."""

from structlog.testing import capture_logs

from agent.faces.ditto.duplicate_agent import DuplicateAgents
from agent.mqtt.hono import Identity
from agent.mqtt.outbox import MAX_WAITING_REPLIES

ANSWER = b'{"topic":"edge/device/things/live/messages/x","path":"/features/F/outbox/messages/x","n":%d}'


def test_answers_that_waited_long_are_still_known_as_our_own() -> None:
    """A thousand may have waited for the broker before the first of them comes back from it."""
    duplicates = DuplicateAgents("F")
    for number in range(MAX_WAITING_REPLIES):
        duplicates.answered(ANSWER % number)
    with capture_logs() as logs:
        for number in range(MAX_WAITING_REPLIES):
            duplicates.heard(ANSWER % number, Identity("edge:device"))
    assert logs == []


def test_an_answer_of_somebody_else_is_an_error() -> None:
    with capture_logs() as logs:
        DuplicateAgents("F").heard(ANSWER % 1, Identity("edge:device"))
    assert [line["log_level"] for line in logs] == ["error"]
