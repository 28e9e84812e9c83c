"""The traps of the original, Eclipse Kanto's file backup: each has a test, and this table says which.

| trap | test |
|---|---|
| a restore while busy is answered with 204 | test_feature_refusals.py::test_a_second_job_is_refused_while_one_runs |
| transport errors are swallowed on download | test_restore_flow.py::test_a_restore_that_cannot_fetch_leaves_the_target_alone |
| zip-slip | test_restore_unpack.py::test_hostile_names_are_refused_and_nothing_is_left |
| directory entries `dir\\` | test_archive_reader.py::test_kanto_archives_are_read |
| credentials in the log | test_secrets.py::test_a_server_that_refuses_and_repeats_all_it_was_told |
| a symbolic link walks out of the scope | test_access.py::test_a_link_inside_the_scope_that_points_outside_is_outside |
| `lastOperation` stuck at STARTED after a restart | test_survival.py::test_kill_in_mid_backup_is_reported_as_interrupted_and_leaves_no_file |
| the first twin update comes before the reply | test_wire_backend.py::test_the_conversation_of_the_original_word_by_word |
| a panic when the first send fails | test_survival.py::test_a_connection_that_breaks_with_the_answer_costs_nothing |
| a panic on `"response-required":"true"` | test_ditto.py::test_response_required_is_a_boolean_or_its_text |
| a panic on a numeric correlation id | test_feature.py::test_the_correlation_id_is_echoed_as_text |
| a panic on `activate {}` | test_periodic.py::test_activate_without_a_frame_backs_up_at_once_and_deactivate_ends_it |
| no time-out on downloads | test_contract_faults.py::test_a_black_hole_is_given_up_within_the_time_out |
| deaf after a broker restart | test_survival.py::test_the_agent_answers_after_a_broker_restart_between_jobs |
| exit status 0 when the broker is absent | test_service.py::test_an_absent_broker_is_waited_for |
| partial archives stay in staging | test_survival.py::test_kill_in_mid_backup_is_reported_as_interrupted_and_leaves_no_file |
| partial archives are offered by `trigger` | test_handover.py::test_archives_that_nobody_knows_are_offered_and_fragments_are_not |
| a FIFO hangs the agent | test_selection.py::test_sockets_fifos_and_devices_are_skipped_with_a_reason |
| a link to a directory fails the backup | test_selection.py::test_a_link_to_a_directory_is_a_link_and_not_followed |
| a dangling link fails the backup | test_selection.py::test_files_directories_and_links_are_found_each_directory_before_its_content |
| `backup.dir` that is a file gives an empty archive and success | test_access.py::test_a_file_is_no_directory_for_backup_and_restore |
| `backup.dir` that is a link gives an empty archive and success | test_access.py::test_a_link_that_points_back_inside_is_inside_and_comes_out_resolved |
| storage inside the source swallows itself | test_pipeline.py::test_the_agent_s_own_storage_is_not_archived |
| an unreadable file fails everything | test_selection.py::test_unreadable_files_and_directories_are_skipped_and_the_rest_is_found |
| modes and times are lost | test_wire_backend.py::test_the_conversation_of_the_original_word_by_word |
| a half-written target after a bad archive | test_restore_flow.py::test_a_truncated_archive_leaves_the_target_alone |
| a cancelled upload still sends everything | test_kanto_traps.py::test_a_cancelled_upload_sends_no_more |
"""  # noqa: E501

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.backend import LAST_UPLOAD
from tests.support.local_agent import LocalAgent, LocalBackend

ROOT = Path(__file__).parents[2]


def start(device: LocalAgent, backend: LocalBackend, **settings: Any) -> None:
    device.settings |= settings
    device.start()
    backend.announced()


def test_every_trap_in_the_table_names_a_test_that_exists() -> None:
    assert __doc__
    rows = [line for line in __doc__.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 27
    for row in rows:
        file, _, name = row.split("|")[2].strip().partition("::")
        (path,) = [path for root in ("tests", "providers") for path in (ROOT / root).rglob(file)]
        assert f"\ndef {name}(" in path.read_text("utf-8"), row


@dataclass
class Counting:
    """A server that takes a little of what is sent, then nothing until it is told, then all there is."""

    listener: socket.socket
    begun: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    received_bytes: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/archive.zip"

    def serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(30)
            self.received_bytes += len(connection.recv(1 << 16))
            self.begun.set()
            self.go_on.wait(30)
            try:
                while piece := connection.recv(1 << 16):
                    self.received_bytes += len(piece)
            except OSError:
                pass
        self.ended.set()


@contextmanager
def counting() -> Iterator[Counting]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        destination = Counting(listener)
        threading.Thread(target=destination.serve, daemon=True).start()
        try:
            yield destination
        finally:
            destination.go_on.set()


def begin_upload(backend: LocalBackend, url: str) -> None:
    backend.run("backup", "X", {})
    backend.ask("start", {"correlationID": "X#1", "options": {"https.url": url}})


def begin_backup(backend: LocalBackend, url: str) -> None:
    backend.ask("backup", {"correlationID": "X", "options": {"https.url": url}})


@pytest.mark.parametrize("begin", [begin_upload, begin_backup])
def test_a_cancelled_upload_sends_no_more(
    device: LocalAgent, backend: LocalBackend, begin: Callable[[LocalBackend, str], None]
) -> None:
    """Not even what is left of the archive; only what the kernel had taken before is on its way."""
    size_bytes = 24 << 20
    (device.data / "random").write_bytes(os.urandom(size_bytes))
    start(device, backend, **{"archive.level": "store"})
    with counting() as destination:
        begin(backend, destination.url)
        assert destination.begun.wait(30)
        assert backend.ask("cancel", {"correlationID": "X"})["status"] == 204
        if begin is begin_upload:
            assert backend.ended("X", LAST_UPLOAD)["state"] == "CANCELED"
        else:
            assert backend.ended("X")["statusCode"] == "cancelled"
        destination.go_on.set()
        assert destination.ended.wait(30), "the connection is still open"
        assert destination.received_bytes < size_bytes // 2
