"""Threads at work: told to end, left to themselves, and seen when they do not."""

import gc
import threading
import weakref
from datetime import timedelta
from functools import partial

import pytest

from agent.jobs.task import DEADLINE_EXCEEDED, Outcome, Task, Tools
from agent.jobs.worker import Workers
from agent.journal import Journal
from agent.mailbox import Mailbox
from agent.settings.group_defaults import TransferSettings
from agent.transfer.context import Context


class Deaf:
    """A piece of work that goes on until it is released, whatever it is told; `lent` is a provider's."""

    def __init__(self, workers: Workers, mailbox: Mailbox, *, lent: bool) -> None:
        self.tools: Tools = workers.tools()
        self.outcomes: list[Outcome[None]] = []
        self.release, self._begun, self._lent, self._mailbox = (
            threading.Event(),
            threading.Event(),
            lent,
            mailbox,
        )
        workers.start(
            Task(
                owner="deaf", correlation_id="X", tools=self.tools, destination=None, work=self._work,
                ended=self.outcomes.append, moved=lambda _bytes: None,
            )
        )  # fmt: skip
        assert self._begun.wait(10)

    def _work(self, context: Context) -> None:
        if not self._lent:
            self._begun.set()
            self.release.wait(60)
            return
        with context.token.lent():
            self._begun.set()
            self.release.wait(60)

    def wait_for_outcome(self) -> Outcome[None]:
        while not self.outcomes:
            if action := self._mailbox.next():
                action()
        return self.outcomes[0]


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def workers_with(journal: Journal, mailbox: Mailbox, deadline_s: float = 0) -> Workers:
    return Workers(journal, mailbox, TransferSettings(), timedelta(seconds=deadline_s))


def test_a_provider_that_hears_nothing_is_stuck_although_its_work_has_ended(
    journal: Journal, mailbox: Mailbox
) -> None:
    """It does no harm to others: whoever has work to do need not look at it."""
    workers = workers_with(journal, mailbox)
    deaf = Deaf(workers, mailbox, lent=True)
    assert workers.stuck(0, left_to_themselves=True) == [], "nobody told it to end"
    workers.cancel(deaf.tools, "enough", "cancelled")
    assert workers.stuck(0, left_to_themselves=False) == ["work-deaf"]
    assert deaf.wait_for_outcome().cancelled
    assert workers.stuck(0, left_to_themselves=True) == ["work-deaf"]
    assert workers.stuck(60, left_to_themselves=True) == []
    assert workers.stuck(0, left_to_themselves=False) == []
    deaf.release.set()
    end_of("work-deaf")
    assert workers.stuck(0, left_to_themselves=True) == []


def test_work_of_our_own_is_waited_for_and_seen_when_it_does_not_end(
    journal: Journal, mailbox: Mailbox
) -> None:
    """It may be on the way back from a commit: nobody else may begin."""
    workers = workers_with(journal, mailbox, deadline_s=0.05)
    deaf = Deaf(workers, mailbox, lent=False)
    while deaf.tools.told_to_end_s is None:
        if action := mailbox.next():
            action()
    assert deaf.tools.token.code == DEADLINE_EXCEEDED
    assert workers.stuck(0, left_to_themselves=False) == ["work-deaf"]
    assert deaf.outcomes == []
    deaf.release.set()
    assert deaf.wait_for_outcome() == Outcome(None)
    end_of("work-deaf")


def test_work_that_ends_in_time_leaves_no_deadline_behind(journal: Journal, mailbox: Mailbox) -> None:
    workers = workers_with(journal, mailbox, deadline_s=3600)
    deaf = Deaf(workers, mailbox, lent=False)
    deaf.release.set()
    deaf.wait_for_outcome()
    assert mailbox.timers == []


def end_of(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(10)
            assert not thread.is_alive()


def test_what_work_held_goes_when_it_has_ended(journal: Journal, mailbox: Mailbox) -> None:
    """Without waiting for the garbage collection, which comes late in a process that is small."""
    workers = workers_with(journal, mailbox)

    class Held:
        pass

    def work(_context: Context, _held: Held) -> None:
        pass

    held, ended = Held(), threading.Event()
    gone = weakref.ref(held)
    task = Task(
        owner="it", correlation_id="X", tools=workers.tools(), destination=None,
        work=partial(work, _held=held), ended=lambda _outcome: ended.set(), moved=lambda _bytes: None,
    )  # fmt: skip
    gc.disable()
    try:
        workers.start(task)
        del task, held
        while not ended.is_set():
            if action := mailbox.next():
                action()
        end_of("work-it")
        del action
        assert gone() is None
    finally:
        gc.enable()


def test_work_whose_end_raises_is_stuck(journal: Journal, mailbox: Mailbox) -> None:
    """Its job would be the running one for ever, and refuse all others: the agent has to start again."""

    def buggy(_outcome: Outcome[None]) -> None:
        raise ZeroDivisionError

    workers = workers_with(journal, mailbox)
    task: Task[None] = Task(
        owner="ends-badly", correlation_id="X", tools=workers.tools(), destination=None,
        work=lambda _context: None, ended=buggy,
    )  # fmt: skip
    workers.start(task)
    end = mailbox.next()
    assert end
    with pytest.raises(ZeroDivisionError):
        end()
    end_of("work-ends-badly")
    assert workers.stuck(60, left_to_themselves=False) == ["work-ends-badly"]
