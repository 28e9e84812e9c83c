"""One job at a time, one outcome per command, uploads beside it."""

from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.stalling import Stalling
from tests.support.trees import contents, differences


def begin_long_backup(backend: LocalBackend, destination: Stalling) -> None:
    options = {"https.url": destination.url}
    assert backend.ask("backup", {"correlationID": "long", "options": options})["status"] == 204
    assert destination.reached.wait(60)


def test_same_correlation_id_twice_keeps_both_archives_apart(
    agent: LocalAgent, backend: LocalBackend
) -> None:
    """The first archive is not orphaned: each has a child id of its own."""
    for child in ("X#1", "X#2"):
        backend.messages.clear()
        backend.run("backup", "X", {})
        backend.requested(child)
    for child in ("X#1", "X#2"):
        value = {"correlationID": child, "options": {"storage.provider": "local"}}
        assert backend.ask("start", value)["status"] == 204


def test_restore_takes_the_named_archive_and_replace_removes_what_it_does_not_name(
    agent: LocalAgent, backend: LocalBackend
) -> None:
    """`local.name` chooses; by default strangers stay, with `restore.mode: replace` they go."""
    before = contents(agent.data)
    named = {"storage.provider": "local", "local.name": "golden.zip"}
    backend.run("backup", "golden", named)
    (agent.data / "stranger").write_text("new")
    backend.run("backup", "later", {"storage.provider": "local"})
    assert backend.run("restore", "a", named)["state"] == "RESTORE_FINISHED"
    assert (agent.data / "stranger").exists()
    assert backend.run("restore", "b", {**named, "restore.mode": "replace"})["state"] == "RESTORE_FINISHED"
    assert differences(before, contents(agent.data)) == []
