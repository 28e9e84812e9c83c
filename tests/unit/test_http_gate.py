"""The way of a handler's thread to the engine, with a mailbox that somebody empties, or nobody."""

import threading
from collections.abc import Iterator

import pytest

from agent.base.refusals import Reason, Refused
from agent.faces.http import engine_gate
from agent.faces.http.engine_gate import EngineGate
from agent.faces.http.message import Problem
from agent.jobs.operations import Operations
from agent.journal import JournalError
from agent.mailbox import Action, Mailbox
from agent.settings import Settings


@pytest.fixture
def gate() -> Iterator[EngineGate]:
    mailbox = Mailbox()
    main = threading.Thread(target=mailbox.run)
    main.start()
    yield EngineGate(mailbox.post, Operations(Settings(), (), ()), lambda *_: None)
    mailbox.post(mailbox.stop)
    main.join(10)
    assert not main.is_alive()


def test_a_function_runs_in_the_main_thread_and_returns_there(gate: EngineGate) -> None:
    assert gate.call(threading.get_ident) != threading.get_ident()
    assert gate.call(lambda: None) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Refused(Reason.BUSY, "busy"), Reason.BUSY),
        (JournalError("full"), Reason.UNAVAILABLE),
        (ZeroDivisionError(), Reason.INTERNAL),
    ],
)
def test_what_goes_wrong_there_is_raised_here(gate: EngineGate, error: Exception, reason: Reason) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(Refused) as caught:
        gate.call(fail)
    assert caught.value.reason is reason


def test_what_was_given_up_is_not_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client was told that nothing has happened."""
    monkeypatch.setattr(engine_gate, "ANSWER_TIMEOUT_S", 0.01)
    posted: list[Action] = []
    done: list[str] = []
    gate = EngineGate(posted.append, Operations(Settings(), (), ()), lambda *_: None)
    with pytest.raises(Problem) as caught:
        gate.call(lambda: done.append("late"))
    assert caught.value.status == 504
    posted[0]()
    assert done == []
