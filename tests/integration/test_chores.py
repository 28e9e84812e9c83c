"""An operator starts an agent in a wrong way, cleans its storage, and works beside a waiting preview."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.agent_process import PROGRAM, AgentProcess, with_constants
from tests.support.backend import Backend
from tests.support.require import possible
from tests.support.waiting import wait_until

LOCAL = {"storage.provider": "local", "local.name": "it.zip"}


def ended(device: AgentProcess) -> tuple[int, str]:
    """The exit status of an agent that does not come up, and what it said."""
    device.start()
    assert device.process
    return device.process.wait(60), device.stderr.read_text()


def test_a_closed_standard_error_is_no_reason_to_fail(device: AgentProcess, backend: Backend) -> None:
    """It ended with 1, without a word."""
    device.start("sh", "-c", 'exec "$0" "$@" 2>&-')
    backend.announced()
    assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FINISHED"
    assert device.stop() == 0


@pytest.mark.parametrize("option", ["-traditional", ""], ids=["rfc1421", "pkcs8"])
def test_an_encrypted_client_key_is_refused_by_its_name(device: AgentProcess, option: str) -> None:
    """The TLS library asked for the passphrase on a terminal, until the watchdog ended it."""
    key = device.work / "client.key"
    command = ["openssl", "genrsa", "-aes128", "-passout", "pass:x", *filter(None, [option])]
    subprocess.run([*command, "-out", key, "2048"], check=True, capture_output=True)
    device.settings |= {"broker": "ssl://127.0.0.1:1", "key": str(key), "cert": str(key)}
    status, said = ended(device)
    assert (status, f"key: '{key}' is encrypted" in said) == (2, True)


def test_a_variable_sets_a_target_whose_name_has_capitals(device: AgentProcess, backend: Backend) -> None:
    """It made a second target, `usb`."""
    device.settings["targets"] = {"USB": {"path": str(device.work / "old")}}
    device.environment["EDGE_BACKUP_TARGETS__USB__PATH"] = str(device.work / "new")
    (device.work / "new").mkdir()
    device.start()
    backend.announced()
    targets = backend.ask("info")["value"]["targets"]
    assert {name: each["present"] for name, each in targets.items()} == {"USB": True}


def test_a_lock_that_somebody_removed_still_keeps_a_second_agent_out(
    agent: AgentProcess, backend: Backend
) -> None:
    (agent.storage / "lock").unlink()
    second = subprocess.run(
        [PROGRAM, "run", "--config", agent.work / "config.json"], capture_output=True, check=False, timeout=30
    )
    assert second.returncode == 1
    agent.wait_for_log(
        f"storage '{agent.storage}' is in use by another agent: stop it, or set another 'storage'"
    )
    assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FINISHED"


def test_a_large_tree_needs_no_writable_directory_but_the_storage(
    device: AgentProcess, backend: Backend
) -> None:
    """Under the unit, and in a container whose root is read-only."""
    alone = (
        'mount --bind "$0" "$0" && cd / && for at in /tmp /var/tmp /dev/shm /run; do'
        ' case "$0" in "$at"/*) ;; *) mount -t tmpfs -o ro none "$at";; esac; done;'
        ' mount -o remount,bind,ro /; exec "$@"'
    )
    tried = subprocess.run(
        ["unshare", "--mount", "sh", "-c", alone, device.work, "true"], check=False, capture_output=True
    )
    possible(tried.returncode == 0, "make a root read-only in a mount namespace")
    device.environment["TMPDIR"] = "/nonexistent"
    spooled = with_constants("agent.formats.zip.directory.MEMORY_BYTES = 1")
    device.start("unshare", "--mount", "sh", "-c", alone, str(device.work), *spooled)
    backend.announced()
    assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FINISHED"


def test_a_backup_beside_a_waiting_preview_leaves_the_metrics_right(
    device: AgentProcess, backend: Backend, tmp_path: Path
) -> None:
    """They were not written any more, for good."""
    metrics = tmp_path / "edge.prom"
    device.settings["metrics.textfile"] = str(metrics)
    device.start(*with_constants("agent.faces.metrics.INTERVAL_S = 0.05"))
    backend.announced()
    backend.run("backup", "first", LOCAL)
    assert backend.ask("restore", {"correlationId": "P", "options": LOCAL | {"restore.preview": "true"}})
    wait_until(lambda: backend.ask("status")["value"].get("preview"), what="the preview")
    before = metrics.read_text()
    assert backend.run("backup", "beside", LOCAL | {"local.name": "2.zip"})["state"] == "BACKUP_FINISHED"
    wait_until(lambda: metrics.read_text() != before, what="new metrics")
    assert 'edge_backup_last_job_success{kind="backup"} 1' in metrics.read_text()
    assert device.count_log("metrics not written") == 0
    assert backend.ask("discard", {"correlationId": "P"})["status"] == 204


def test_a_log_that_is_gone_is_made_again(agent: AgentProcess, backend: Backend) -> None:
    """Also without a signal; what is written goes to nobody else meanwhile."""
    os.unlink(agent.log)
    assert backend.run("backup", "X", LOCAL)["state"] == "BACKUP_FINISHED"
    agent.wait_for_log("backup finished", correlation_id="X")
