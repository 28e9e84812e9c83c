"""The table of operations: everything that the agent can be asked for. Pure.

`agent.jobs.engine` attaches the code of each; settings, faces, the command line and the documents read it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Face(StrEnum):
    """A way for requests to come in."""

    MQTT = "mqtt"
    """From a backend, as messages to the twin's feature; the setting `allow.operations` may forbid them."""
    LOCAL = "local"
    """From a program on the device, through the Unix socket."""
    HTTP = "http"
    """From the network, over HTTP; `mode` and `allow.*` hold as for MQTT."""


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation: a command, or a request that is answered with a value."""

    name: str
    help: str
    """A description for the person who sends it."""
    fields: tuple[str, ...] = ()
    """The members of its value, as docs/wire.md names them."""
    makes_id: bool = False
    """True when an absent `correlationId` is replaced by a new one; otherwise the id names what exists."""
    returns_value: bool = False
    """True for a question, which is answered with a value; a command is answered when it is accepted."""
    faces: frozenset[Face] = frozenset(Face)


_ID, _OPTIONS = "correlationId", "options"

OPERATIONS = {
    each.name: each
    for each in (
        Operation("backup", "archive a directory of the device", (_ID, _OPTIONS), makes_id=True),
        Operation("restore", "put an archive back", (_ID, _OPTIONS), makes_id=True),
        Operation("start", "upload an archive that waits on the device", (_ID, _OPTIONS)),
        Operation(
            "trigger",
            "send an upload request for every archive that waits",
            (_ID, _OPTIONS),
            makes_id=True,
        ),
        Operation("cancel", "stop what runs under an id", (_ID, "statusCode", "message")),
        Operation("activate", "switch periodic backups on", ("from", "to")),
        Operation("deactivate", "switch periodic backups off"),
        Operation("finalize", "carry out the restore that was previewed", (_ID, _OPTIONS)),
        Operation("discard", "remove the waiting preview", (_ID,)),
        Operation("confirm", "keep the data of a commit-confirmed restore", (_ID,)),
        Operation(
            "verify", "check that an archive is whole; changes nothing", (_ID, _OPTIONS), makes_id=True
        ),
        Operation("status", "ask what the device is doing", returns_value=True),
        Operation("history", "ask which jobs have ended, newest first", (_OPTIONS,), returns_value=True),
        Operation("describe", "ask for all that is known of one job", (_ID,), returns_value=True),
        Operation("info", "ask what a backup would save and skip now", (_OPTIONS,), returns_value=True),
        Operation("archives", "ask which archives a store has", (_OPTIONS,), returns_value=True),
        Operation(
            "prune",
            "remove archives that no rule of retention keeps",
            ("dryRun",),
            returns_value=True,
            faces=frozenset({Face.LOCAL}),
        ),
    )
}


def offered(face: Face) -> tuple[str, ...]:
    return tuple(name for name, operation in OPERATIONS.items() if face in operation.faces)
