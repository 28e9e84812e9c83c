"""`cancel` in every phase: one outcome, within a second, and everything is as it was.

Phases that nothing can hold up from outside (comparing, unpacking) are cancelled in `test_pipeline.py`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from time import monotonic

import pytest

from tests.support.backend import LAST_UPLOAD
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.stalling import stalling
from tests.support.trees import contents, differences
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local"}
SLOW = {"transfer": {"rateLimit": "100kB"}, "archive": {"level": "store"}}
ENDLESS = "#!/bin/sh\nexec sleep 600\n"


@contextmanager
def nowhere() -> Iterator[dict[str, str]]:
    """Options of a place that takes what comes."""
    yield LOCAL


@contextmanager
def stalled() -> Iterator[dict[str, str]]:
    """Options of a place that lets a transfer begin and never end."""
    with stalling() as destination:
        yield {"https.url": destination.url}


@dataclass(frozen=True)
class Phase:
    """A job that stays in a phase until it is cancelled."""

    kind: str
    name: str
    settings: Mapping[str, object] = field(default_factory=dict)
    hook: str = ""
    destination: Callable[[], AbstractContextManager[dict[str, str]]] = nowhere


PHASES = {
    "collecting": Phase("backup", "collecting", hook="backupCmd"),
    "archiving": Phase("backup", "archiving", SLOW),
    "uploading": Phase("backup", "uploading", destination=stalled),
    "fetching": Phase("restore", "fetching", destination=stalled),
    "delivering": Phase("restore", "delivering", hook="restoreCmd"),
    "before the commit": Phase("restore", "committing", hook="beforeRestoreCmd"),
    "after the commit": Phase("restore", "committing", hook="afterRestoreCmd"),
}


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_cancel_in_every_phase_ends_the_job_once_and_changes_nothing(
    device: LocalAgent, backend: LocalBackend, phase: Phase
) -> None:
    """Also when everything is in place already and only `afterRestoreCmd` still runs."""
    device.start()
    backend.announced()
    backend.run("backup", "first", LOCAL)
    (device.data / "newer").write_bytes(bytes(3_000_000))
    before, kept = contents(device.data), sorted((device.storage / "archives").iterdir())
    device.stop()
    device.settings |= phase.settings
    if phase.hook:
        script = device.work / "endless.sh"
        script.write_text(ENDLESS)
        script.chmod(0o755)
        device.settings[phase.hook] = str(script)
    backend.messages.clear()
    device.start()
    backend.announced()
    with phase.destination() as options:
        backend.ask(phase.kind, {"correlationId": "X", "options": options})
        reach(backend, device, phase)
        cancelled_s = monotonic()
        value = {"correlationId": "X", "statusCode": "enough", "message": "no more"}
        assert backend.ask("cancel", value)["status"] == 204
        ended = backend.ended("X")
        assert monotonic() - cancelled_s < 10
    failed = f"{phase.kind.upper()}_FAILED"
    assert (ended["state"], ended["statusCode"], ended["message"]) == (failed, "enough", "no more")
    assert backend.ask("cancel", {"correlationId": "X"})["status"] == 404
    assert [told["state"] for told in backend.values()] == [f"{phase.kind.upper()}_STARTED", failed]
    assert differences(before, contents(device.data)) == []
    assert sorted((device.storage / "archives").iterdir()) == kept


def reach(backend: LocalBackend, device: LocalAgent, phase: Phase) -> None:
    def there() -> bool:
        job = backend.ask("status")["value"]["job"]
        return bool(job and job["phase"] == phase.name)

    wait_until(there, what=f"the phase {phase.name}")
    if phase.hook:
        device.wait_for_log("hook started", hook=phase.hook)


def test_cancel_of_what_does_not_run_is_404_and_never_500(agent: LocalAgent, backend: LocalBackend) -> None:
    """Before any job, after one, and while another runs; an archive that waits is another matter."""
    wrong = [{"correlationId": "nobody"}, {"correlationId": "done"}, {}, None]
    assert backend.ask("cancel", wrong[0])["status"] == 404
    assert backend.values() == []
    backend.run("backup", "done", LOCAL)
    backend.run("backup", "staged", {})
    with stalling() as destination:
        backend.ask("backup", {"correlationId": "other", "options": {"https.url": destination.url}})
        assert destination.reached.wait(60)
        for value in wrong:
            answer = backend.ask("cancel", value)
            assert (answer["status"], answer["value"]["error"]) == (404, "messages:parameter.invalid")
        assert backend.ask("cancel", {"correlationId": "staged#1"})["status"] == 204
        destination.release.set()
        assert backend.ended("other")["state"] == "BACKUP_FINISHED"
        assert backend.ended("staged", LAST_UPLOAD)["state"] == "CANCELED"
