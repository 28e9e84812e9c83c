"""A power cut takes everything that was not synced, or any part of it.

SIGKILL keeps the page cache, so an agent without a single fsync would pass test_crash_sweep.py. Here the
system calls of the installed program are recorded; their order is checked, and the disk is laid out as it
may be after a power cut at any of them, for the agent to recover from.
"""

import json
import random
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from agent.base.job import WORKING
from agent.restore.memory import work_directory_of, work_id
from tests.faults.recording import Recording, packet, record
from tests.faults.stage import Stage
from tests.faults.stories import STORIES, Teller
from tests.faults.tally import LONG, tally
from tests.support.backend import Message
from tests.support.disk_model import Disk, Effect
from tests.support.incubator import Hatched
from tests.support.strace_log import Recorded
from tests.support.trees import contents

SHORT_CUTS, LONG_CUTS = 2, 20
RANDOM_CHOICES = 3 if LONG else 1

_MAY_COME_BACK = re.compile(
    # What the journal must have is asked for by itself: the rest of its log may be what needs no sync. The
    # log's index is made anew after a crash, and what is incomplete is removed at the start.
    r"write \S+/journal\.db-wal|journal\.db-shm|(create|remove) \S+/journal\.db-journal"
    r"|(create|truncate|write) \S+/(lock|spare)$|remove \S+/(backups|downloads)/\S+\.(part|direct)"
    # Databases that were copied. A repository's state may fall back to the snapshot before.
    r"|(mkdir|remove) \S+/work-\w+-databases|(create|remove) \S+/repositories/\S+-journal"
)
_END = re.compile(rb'"state":"(BACKUP_|RESTORE_)?(FINISHED|FAILED|SUCCESS|CANCELED)"')


def _unsynced(disk: Disk) -> list[str]:
    return [what for what in disk.at_risk() if not _MAY_COME_BACK.search(what)]


def _check_synced_before(name: str, recording: Recording) -> int:
    """An end goes out when all that it tells is on the disk, a PUBACK when the journal has the command.

    Between the journal and the PUBACK another thread may already carry the command out. A file gets its
    name when its content is on the disk. Returns how many calls change what a power cut leaves.
    """
    disk, acknowledged, changes = recording.disks[0], 0, 0
    with tally(f"synced before: {name}") as points:
        for number, call in enumerate(recording.calls):
            said = packet(call)
            if said and (said[0] == "puback" or _END.search(said[1])):
                with points.trying(f"call {number}, {said[0]} {said[1][:200]!r}"):
                    assert said[0] == "puback" or _unsynced(disk) == []
                    promised = said[1] or recording.sent[acknowledged][2].encode()
                    assert disk.surely_has(promised), f"not in the journal for sure: {promised[:200]!r}"
                acknowledged += said[0] == "puback"
            elif call.name.startswith("rename"):
                with points.trying(f"call {number}, {call.name} {call.arguments}"):
                    assert _content_not_synced(disk, call.arguments) == []
            changes += _changes(disk, call)
    return changes


def _changes(disk: Disk, call: Recorded) -> bool:
    """Feed the disk with the call; return whether that made an effect, or made one last."""
    before = len(disk.effects), sum(effect.lasts for effect in disk.effects)
    disk.feed(call)
    return (len(disk.effects), sum(effect.lasts for effect in disk.effects)) != before


def _content_not_synced(disk: Disk, arguments: list[str]) -> list[str]:
    name = arguments[1 if len(arguments) > 2 else 0].strip('"')
    return [effect.what for effect in disk.unsynced if effect.is_data and effect.what.endswith(f"/{name}")]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", STORIES)
def test_after_a_power_cut_everything_is_old_or_new_and_told_once(name: str, stage: Stage) -> None:
    with stage.agent() as agent:
        recording = record(stage, name, agent)
        stage.new[name] = contents(agent.data)
        disk, total = recording.disks[1], _check_synced_before(name, recording)
        with tally(f"power cut: {name}") as points:
            cuts = set(points.chosen(total, SHORT_CUTS, LONG_CUTS))
            for cut, kept, heard, acknowledged in _cuts(recording.calls, disk, cuts, name):
                with points.trying(f"cut {cut} of {total}, {len(kept)} of {len(disk.unsynced)} kept"):
                    _lay_out(disk, agent, kept)
                    _tell_the_rest(stage, name, agent, recording, heard, acknowledged)


def _cuts(
    calls: list[Recorded], disk: Disk, cuts: set[int], name: str
) -> Iterator[tuple[int, set[Effect], list[Message], int]]:
    """Every chosen point in the recording, with what the disk keeps and what was said before it."""
    chance = random.Random(name)
    heard: list[Message] = []
    number = acknowledged = 0
    seen: set[frozenset[int]] = set()
    for call in calls:
        changes = _changes(disk, call)
        if said := packet(call):
            acknowledged += said[0] == "puback"
            if said[0] != "puback":
                heard.append((said[0], json.loads(said[1])))
        if not changes:
            continue
        number += 1
        if number not in cuts:
            continue
        for kept in _choices(disk, chance):
            state = frozenset(id(effect) for effect in disk.effects if effect.lasts or effect in kept)
            if state not in seen:
                seen.add(state)
                yield number, kept, list(heard), acknowledged


def _choices(disk: Disk, chance: random.Random) -> list[set[Effect]]:
    """None of what was not synced; all; and some, where names appear in their order, as in any journal."""
    unsynced = disk.unsynced
    choices: list[set[Effect]] = [set(), set(unsynced)]
    names = [effect for effect in unsynced if effect.is_name]
    for _ in range(RANDOM_CHOICES):
        some = {effect for effect in unsynced if not effect.is_name and chance.random() < 0.5}
        choices.append(some | set(names[: chance.randint(0, len(names))]))
    return choices


def _lay_out(disk: Disk, agent: Hatched, kept: set[Effect]) -> None:
    agent.kill()
    shutil.rmtree(agent.root)
    agent.root.mkdir()
    disk.lay_out(disk.after_power_cut(lambda effect: effect in kept))
    _keep_inode_numbers(agent)


def _keep_inode_numbers(agent: Hatched) -> None:
    """Correct the inode numbers in the journal: a real disk keeps them, this copy does not."""
    if not (agent.storage / "journal.db").exists():
        return
    with (
        closing(sqlite3.connect(agent.storage / "journal.db")) as journal,
        suppress(sqlite3.OperationalError),
    ):
        rows = journal.execute("SELECT owner, value FROM checkpoints WHERE key = ?", (WORKING,)).fetchall()
        for owner, text in rows:
            roots = [_numbered(each, owner) for each in json.loads(text)]
            journal.execute(
                "UPDATE checkpoints SET value = ? WHERE owner = ? AND key = ?",
                (json.dumps(roots), owner, WORKING),
            )
        journal.commit()


def _numbered(root: list[Any], job_id: str) -> list[Any]:
    directory = work_directory_of(Path(root[1]), work_id(job_id, root[0]))
    known = len(root) > 3 and directory.exists()
    return [*root[:3], directory.stat().st_ino] if known else root


def _tell_the_rest(
    stage: Stage, name: str, agent: Hatched, recording: Recording, heard: list[Message], acknowledged: int
) -> None:
    agent.start()
    teller = Teller(agent, stage.backend)
    stage.backend.messages[:] = heard
    for number, (operation, correlation_id, header) in enumerate(recording.sent):
        teller.known[operation, correlation_id] = (header, number < acknowledged)
    stage.tell(name, teller)
