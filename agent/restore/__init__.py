"""Restoring, all or nothing: a failure, a cancel or a crash leaves the target entirely old or entirely new.

`restore` is what the rest of the agent uses, and `together` for several directories at once. Below it:
`unpack` fills the working directory (`workspace`), `compare` finds out what has to happen, `plan` keeps
that on the disk, `commit` does and undoes it, and `recovering` after a crash; `difference` only counts. The
rest are their tools: `directories` (never through a link), `disk`, `files`, `metadata`, `mounts`,
`pending`, `sparse`.

The target's own modification time is the one thing that a crash may change: it is put back right after
the working directory is made and removed, and nothing can join the two instructions.
"""

from agent.restore.difference import Difference
from agent.restore.made_directories import make_target, missing, remove_made
from agent.restore.mounts import where_mounted
from agent.restore.recovering import Recovery, committed, on_trial, recover
from agent.restore.restore import Restore, RestoreOptions
from agent.restore.restore_set import (
    Left,
    Together,
    is_committed,
    left_text,
    read_left,
    recover_together,
    work_id,
)
from agent.restore.workspace import work_directory_of

__all__ = [
    "Difference",
    "Left",
    "Recovery",
    "Restore",
    "RestoreOptions",
    "Together",
    "committed",
    "is_committed",
    "left_text",
    "make_target",
    "missing",
    "on_trial",
    "read_left",
    "recover",
    "recover_together",
    "remove_made",
    "where_mounted",
    "work_directory_of",
    "work_id",
]
