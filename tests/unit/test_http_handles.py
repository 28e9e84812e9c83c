"""Handles of encrypted archives: few, for a while, and each for one archive."""

import pytest

from agent.faces.http.api.handles import LASTS_S, MOST, Handles
from agent.faces.http.message import Problem
from agent.formats.base import Unlock
from agent.mailbox import Action

KEY = Unlock(("correct horse",))


def test_a_handle_is_of_one_archive_and_expires() -> None:
    timers: list[tuple[float, Action]] = []
    handles = Handles(lambda delay_s, action: timers.append((delay_s, action)))
    handle = handles.keep("store", "a.zip.age", KEY)
    assert handles.unlock(handle, "store", "a.zip.age") is KEY
    for store, archive in (("store", "b.zip.age"), ("other", "a.zip.age")):
        with pytest.raises(Problem, match="open the archive again"):
            handles.unlock(handle, store, archive)
    ((delay_s, expire),) = timers
    assert delay_s == LASTS_S
    expire()
    with pytest.raises(Problem):
        handles.unlock(handle, "store", "a.zip.age")


def test_the_oldest_is_forgotten_when_there_are_too_many() -> None:
    """A client that opens one archive after another does not fill the memory."""
    handles = Handles(lambda _delay_s, _action: None)
    given = [handles.keep("store", "a", KEY) for _ in range(MOST + 1)]
    with pytest.raises(Problem):
        handles.unlock(given[0], "store", "a")
    assert handles.unlock(given[1], "store", "a") is KEY
