"""One thread takes what all others post, one thing at a time."""

import threading
import time

from structlog.testing import capture_logs

from agent.mailbox import Mailbox


def test_what_is_posted_is_done_in_its_order_by_the_thread_that_runs() -> None:
    """No locks: the state belongs to that thread alone."""
    mailbox, done = Mailbox(), []
    for number in range(3):
        mailbox.post(lambda number=number: done.append((number, threading.get_ident())))  # type: ignore[misc]
    mailbox.post(mailbox.stop)
    poster = threading.Thread(target=mailbox.post, args=(lambda: done.append((9, 0)),))
    poster.start()
    poster.join()
    mailbox.run()
    assert done == [(number, threading.get_ident()) for number in range(3)]


def test_an_action_that_raises_does_not_end_the_agent() -> None:
    """It is a bug: a line with its traceback, and the next action."""
    mailbox, done = Mailbox(), []

    def fail() -> None:
        raise KeyError("bug")

    mailbox.post(fail)
    mailbox.post(lambda: done.append(1))
    mailbox.post(mailbox.stop)
    with capture_logs() as lines:
        mailbox.run()
    assert done == [1]
    assert [(line["event"], line["exc_info"]) for line in lines] == [("internal error", True)]


def test_timers_fire_in_the_order_of_their_time_and_not_before() -> None:
    mailbox, done = Mailbox(), []
    begun_s = time.monotonic()
    mailbox.call_later(0.03, lambda: done.append(("late", time.monotonic() - begun_s)))
    mailbox.call_later(0.01, lambda: done.append(("early", time.monotonic() - begun_s)))
    mailbox.call_later(0.03, mailbox.stop)
    mailbox.run()
    assert [name for name, _ in done] == ["early", "late"]
    assert done[0][1] >= 0.01
    assert done[1][1] >= 0.03


def test_timers_of_the_same_moment_fire_in_the_order_in_which_they_were_set() -> None:
    mailbox, done = Mailbox(), []
    for number in range(5):
        mailbox.call_later(0, lambda number=number: done.append(number))  # type: ignore[misc]
    mailbox.call_later(0, mailbox.stop)
    mailbox.run()
    assert done == [0, 1, 2, 3, 4]


def test_a_cancelled_timer_does_nothing() -> None:
    mailbox, done = Mailbox(), []
    timer = mailbox.call_later(0, lambda: done.append(1))
    timer.cancel()
    timer.cancel()
    mailbox.call_later(0, mailbox.stop)
    mailbox.run()
    assert done == []


def test_cancelled_timers_are_not_kept_until_their_time() -> None:
    """The deadline of every job lies a day ahead: ten thousand of them would add up."""
    mailbox, done = Mailbox(), []
    timers = [mailbox.call_later(day, lambda: None) for day in (3, 1, 4, 1, 5)]
    mailbox.call_later(0, lambda: done.append(1))
    for timer in timers:
        timer.cancel()
    assert len(mailbox.timers) == 1
    mailbox.call_later(0, mailbox.stop)
    mailbox.run()
    assert done == [1]


def test_what_is_posted_does_not_wait_for_a_timer() -> None:
    """A watchdog every 30 s must not make commands wait."""
    mailbox = Mailbox()
    mailbox.call_later(3600, mailbox.stop)
    poster = threading.Timer(0.01, mailbox.post, (mailbox.stop,))
    poster.start()
    mailbox.run()
    poster.join()


def test_a_stream_of_messages_does_not_starve_a_timer() -> None:
    """Each action posts the next: the timer's turn comes all the same."""
    mailbox = Mailbox()

    def again() -> None:
        mailbox.post(again)

    mailbox.post(again)
    mailbox.call_later(0.01, mailbox.stop)
    mailbox.run()


def test_an_action_may_post_and_set_timers() -> None:
    mailbox, done = Mailbox(), []

    def first() -> None:
        mailbox.post(lambda: done.append("posted"))
        mailbox.call_later(0.01, mailbox.stop)

    mailbox.post(first)
    mailbox.run()
    assert done == ["posted"]
