"""Any call that changes the disk fails: once, or from then on, as on a full, broken or read-only disk."""

import errno
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import pytest

from tests.faults.stage import Stage
from tests.faults.stories import LOCAL, REPOSITORY, THREE, Teller, check_goes_on
from tests.faults.tally import tally
from tests.support.incubator import Hatched
from tests.support.syscalls import Call, Verdict
from tests.support.trees import Found, contents

SHORT_POINTS, LONG_POINTS = 1, 8
JOBS: dict[str, tuple[str, dict[str, str]]] = {
    "backup to local": ("backup", LOCAL),
    "backup to staging": ("backup", {}),
    "backup to https": ("backup", {"https.url": ""}),
    "snapshot in a repository": ("backup", REPOSITORY),
    "restore from local": ("restore", LOCAL),
    "restore from https": ("restore", {"https.url": ""}),
    "three roots": ("restore", {**LOCAL, **THREE}),
}
_FREES = ("unlink", "rmdir", "fsync", "fdatasync", "syncfs", "chmod", "chown", "utime", "fchmod", "fchown")


@dataclass
class Trouble:
    """Fails the call number `at`, and with `lasting` all after it, until it is `over`."""

    at: int
    error: int
    lasting: bool
    over: bool = False

    def decide(self, call: Call, number: int) -> Verdict:
        if self.over or number < self.at or (number > self.at and not self.lasting):
            return None
        if self.error == errno.ENOSPC and call.name.startswith(_FREES):
            return None  # a full disk keeps nobody from making room, or from what needs none
        return self.error


KINDS = {
    "full once": partial(Trouble, error=errno.ENOSPC, lasting=False),
    "fails once": partial(Trouble, error=errno.EIO, lasting=False),
    "full": partial(Trouble, error=errno.ENOSPC, lasting=True),
    "read-only": partial(Trouble, error=errno.EROFS, lasting=True),
}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", JOBS)
def test_a_disk_in_trouble_is_told_by_its_code_and_the_agent_lives_on(name: str, stage: Stage) -> None:
    begun, total, new = _rehearsed(stage, name)
    for kind, trouble in KINDS.items():
        with tally(f"disk {kind}: {name}") as points:
            for number in points.chosen(total - begun, SHORT_POINTS, LONG_POINTS):
                with points.trying(f"call {begun + number} of {total}"):
                    _troubled(stage, name, trouble(begun + number), new)


def _rehearsed(stage: Stage, name: str) -> tuple[int, int, dict[str, Found]]:
    """Calls up to the first command, those up to its end, and what the device looks like then."""
    with stage.agent() as agent:
        supervisor = agent.start(watched=True)
        assert supervisor
        teller = Teller(agent, stage.backend)
        teller.announced()
        teller.settle()
        begun = len(supervisor.calls)
        operation, options = _job(stage, name)
        teller.run(operation, "X", options)
        teller.settle()
        return begun, len(supervisor.calls), contents(agent.data)


def _job(stage: Stage, name: str) -> tuple[str, dict[str, str]]:
    operation, options = JOBS[name]
    return operation, {key: value or stage.url for key, value in options.items()}


def _troubled(stage: Stage, name: str, trouble: Trouble, new: dict[str, Found]) -> None:
    with stage.agent() as agent:
        agent.start(decide=trouble.decide)
        teller = Teller(agent, stage.backend)
        teller.announced()
        teller.settle()
        state = _outcome(teller, *_job(stage, name))
        trouble.over = True
        teller.settle()
        assert teller.restarts == 0, f"the agent died: {agent.logged()[-1500:]}"
        teller.until(lambda: "STARTED" not in _job_states(agent), "the job's end in the journal")
        # What a disk did not let go at the time is put right at the next start, and nothing is told anew.
        agent.kill()
        agent.start()
        check_goes_on(teller, lambda: stage.check_data(agent, new if _is_new(state) else stage.old))
        assert [end["state"] for end in teller.ends("X")] == ([state] if state else [])


def _outcome(teller: Teller, operation: str, options: dict[str, str]) -> str:
    """How the job ended; "" when the command was refused."""
    answer = teller.answers(teller.command(operation, "X", options))[0]
    if answer["status"] != 204:
        assert answer["status"] in (400, 507), answer
        assert not teller.values("X")
        return ""
    teller.until(lambda: teller.ends("X"), "the end of X")
    end = teller.ends("X")[0]
    assert end["statusCode"] in ("", "no-space", "io-error"), teller.agent.logged()[-1500:]
    return str(end["state"])


def _is_new(state: str) -> bool:
    return state == "RESTORE_FINISHED"


def _job_states(agent: Hatched) -> list[str]:
    with closing(sqlite3.connect(agent.storage / "journal.db", timeout=5)) as db:
        return [state for (state,) in db.execute("SELECT state FROM jobs")]
