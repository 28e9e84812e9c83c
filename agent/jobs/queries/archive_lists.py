"""The question `archives`: which archives of a device a store has, newest first."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from agent.base.errors import Cancelled, JobError
from agent.base.refusals import Refused
from agent.jobs.operations import Tell
from agent.jobs.queries.archives import Archives, OpenedStore
from agent.jobs.queries.fitting import encoded_bytes
from agent.jobs.queries.late_answers import ANSWER_WITHIN_S, LateAnswers
from agent.jobs.requests.restore import ArchivesRequest
from agent.mailbox import Mailbox
from providers.errors import StorageError

_LONGEST_NAME = 64 + len("-2026-11-22-02.00.00.104-0a1b2c3d.zip.age")
_PROBLEM_BYTES = 400


@dataclass(slots=True)
class _Page:
    """The answer, to which the thread adds."""

    room_bytes: int
    archives: list[Mapping[str, Any]] = field(default_factory=list)
    is_last: bool = False
    problem: tuple[str, str] | None = None
    """A status code, and a message for people."""

    def take(self, archive: Mapping[str, Any]) -> bool:
        """Take an archive; return False when there is no room for it."""
        self.room_bytes -= encoded_bytes(archive) + len(",")
        if self.archives and self.room_bytes < 0:
            return False
        self.archives.append(archive)
        return True

    def value(self, complete: bool) -> Mapping[str, Any]:
        value: dict[str, Any] = {"archives": list(self.archives)}
        if self.archives and not self.is_last:
            value["next"] = self.archives[-1]["name"]
        problem = self.problem
        if not complete and not problem and not self.archives:
            problem = ("unreachable", f"the store did not answer within {ANSWER_WITHIN_S:.0f} s")
        if problem:
            value["code"], value["message"] = problem
        return value


class ArchiveLists:
    """Belongs to the main thread."""

    def __init__(self, archives: Archives, mailbox: Mailbox) -> None:
        self._archives, self._answers = archives, LateAnswers("archives", mailbox, ANSWER_WITHIN_S)

    def archives(self, request: ArchivesRequest, room_bytes: int, tell: Tell) -> None:
        """Tell `archives`, as many as fit, with `next` where older ones are left.

        A store that cannot be read is told by `code` and `message`. Raises `Refused` for one that cannot be
        opened, and while an earlier question is being answered.
        """
        self._answers.refuse_second()
        store = self._archives.listable(request.source, request.device_id)
        without = {"archives": [], "next": "x" * _LONGEST_NAME, "code": "", "message": ""}
        page = _Page(room_bytes - encoded_bytes(without) - _PROBLEM_BYTES)
        self._answers.begin(partial(_read, store, request, page), store.token, page.value, tell)


def _read(store: OpenedStore, request: ArchivesRequest, page: _Page) -> None:
    """Read the store into the page; runs in the thread."""
    try:
        with store.token.waking(store.connections.shut):
            for archive in store.values(request.after, details=request.details):
                if not page.take(archive):
                    return
            page.is_last = True
    except Cancelled:
        raise
    except (StorageError, JobError) as error:
        page.problem = error.code, str(error)
    except Refused as error:
        page.problem = "not-found", error.message
    except OSError as error:
        page.problem = "io-error", f"the store cannot be read: {error.strerror}"
    finally:
        store.close()
