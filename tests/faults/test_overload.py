"""Too much at once: every command gets its answer, `cancel` is heard, and memory stays where it is."""

import json
import os
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.rig import Rig, rig
from tests.faults.tally import tell
from tests.support.backend import DEVICE, FEATURE, THING
from tests.support.stalling import Stalling, stalling
from tests.support.waiting import wait_until

COMMANDS = 1000
BOUND_BYTES = 24 << 20
"""A flood may add so much to the memory of an idle agent."""
CPU_S = 10
"""Far more than a thousand commands cost, and far less than if each cost more than the one before."""


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as running:
        running.backend.announced()
        running.works("warm")
        yield running


def peak_bytes(there: Rig) -> int:
    """VmHWM of the agent (proc_pid_status(5))."""
    status = Path(f"/proc/{there.agent.pid}/status").read_text("ascii")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found
    return int(found[1]) << 10


def cpu_s(there: Rig) -> float:
    """CPU time of the agent (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{there.agent.pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def command(operation: str, header: str, value: object = None, thing: str = THING) -> bytes:
    message = {
        "topic": f"{thing}/things/live/messages/{operation}",
        "headers": {"response-required": True, "correlation-id": header},
        "path": f"{FEATURE}/inbox/messages/{operation}",
        "value": value,
    }
    return json.dumps(message).encode()


def flood(there: Rig, destination: Stalling, total: int = COMMANDS) -> list[str]:
    """Backups to a place that lets none of them end; their correlation ids. Does not wait for answers."""
    headers = [f"flood-{number}" for number in range(total)]
    for header in headers:
        value = {"correlationID": header, "options": {"https.url": destination.url}}
        there.backend.client.publish(
            f"command//{DEVICE}/req/{header}/backup", command("backup", header, value), 1
        )
    return headers


def statuses(there: Rig, wanted: set[str]) -> dict[str, list[int]]:
    """The answers so far, by correlation id."""
    found: dict[str, list[int]] = {}
    for topic, message in list(there.backend.messages):
        header = message["headers"].get("correlation-id")
        if topic.startswith("command/") and header in wanted:
            found.setdefault(header, []).append(message["status"])
    return found


def test_of_a_thousand_commands_one_runs_and_all_are_answered_once(there: Rig) -> None:
    before = peak_bytes(there)
    with stalling() as destination:
        wanted = set(flood(there, destination))
        wait_until(lambda: len(statuses(there, wanted)) == COMMANDS, what="all answers", timeout_s=60)
        counts = Counter(tuple(answers) for answers in statuses(there, wanted).values())
        assert counts == {(204,): 1, (409,): COMMANDS - 1}
        destination.release.set()
        (first,) = [header for header, answers in statuses(there, wanted).items() if answers == [204]]
        there.backend.ended(first)
    grown = peak_bytes(there) - before
    tell(f"{COMMANDS} commands: 1 accepted, {counts[(409,)]} refused; memory grew by {grown >> 10:,} KiB")
    assert grown < BOUND_BYTES
    states = [value for value in there.backend.values() if value["correlationId"].startswith("flood")]
    assert len(states) == 2


def test_cancel_is_answered_at_once_in_the_middle_of_a_thousand_commands(there: Rig) -> None:
    """It is sent behind all of them: on a slow disk one sync for each would keep it waiting."""
    with stalling() as destination:
        headers = flood(there, destination)
        there.backend.answer(headers[0])
        begun_s, begun_cpu_s = time.monotonic(), cpu_s(there)
        answer = there.backend.ask("cancel", {"correlationID": headers[0]}, request_id="cancel")
        waited_s, used_s = time.monotonic() - begun_s, cpu_s(there) - begun_cpu_s
        assert answer["status"] == 204
        assert there.backend.ended(headers[0])["statusCode"] == "cancelled"
    tell(f"cancel behind {COMMANDS} commands answered in {waited_s:.2f} s, {used_s:.2f} s of CPU")
    assert used_s < CPU_S
    assert waited_s < 10, "it took many syncs"


def test_payloads_of_a_mebibyte_are_dropped_and_cost_no_memory(there: Rig) -> None:
    before = peak_bytes(there)
    big = command("backup", "big", {"options": {"x": "y" * (1 << 20)}})
    for number in range(200):
        there.backend.publish(f"command//{DEVICE}/req/{number}/backup", big, qos=number % 2)
    there.works("after")
    grown = peak_bytes(there) - before
    tell(f"200 payloads of 1 MiB: memory grew by {grown >> 10:,} KiB")
    assert grown < BOUND_BYTES
    assert statuses(there, {"big"}) == {}


def test_retained_commands_are_never_run(there: Rig) -> None:
    """However often they come back: with every subscription."""
    for number in range(100):
        topic = f"command//{DEVICE}/req/{number}/backup"
        there.backend.publish(topic, command("backup", f"retained-{number}", {}), retain=True)
    # Whoever was subscribed already gets them without the flag: one is an ordinary command.
    wait_until(lambda: len(statuses(there, retained())) == 100, what="answers to live ones")
    there.agent.stop()
    there.backend.messages.clear()
    there.agent.start()
    there.backend.announced()
    there.works("after")
    assert there.agent.count_log("retained command ignored: remove it from the broker") >= 20
    assert statuses(there, retained()) == {}


def retained() -> set[str]:
    return {f"retained-{number}" for number in range(100)}


def test_a_hundred_other_devices_on_the_same_topics_are_not_our_business(there: Rig) -> None:
    before, total = peak_bytes(there), 0
    for device in range(100):
        for number in range(20):
            topic = f"command//edge:other{device}/req/{number}/backup"
            payload = command("backup", f"other-{device}-{number}", {}, f"edge/other{device}")
            there.backend.client.publish(topic, payload, 1)
            answer = f"command//edge:other{device}/res/{number}/204"
            there.backend.client.publish(answer, json.dumps(ditto_answer(device, number)), 1)
            total += 1
    there.works("after")
    grown = peak_bytes(there) - before
    tell(f"{total} commands and answers of 100 other devices: memory grew by {grown >> 10:,} KiB")
    assert grown < BOUND_BYTES
    assert [value["correlationId"] for value in there.backend.values()][-1] == "after"
    assert there.agent.count_log("another agent answers for this feature: stop it") == 0


def ditto_answer(device: int, number: int) -> dict[str, object]:
    return {
        "topic": f"edge/other{device}/things/live/messages/backup",
        "headers": {"content-type": "application/json", "correlation-id": f"other-{device}-{number}"},
        "path": f"{FEATURE}/outbox/messages/backup",
        "status": 204,
    }


def test_a_flood_of_garbage_does_not_fill_memory_and_commands_get_through(there: Rig) -> None:
    """At QoS 0 no broker holds it back: as much as the connection takes."""
    before = peak_bytes(there)
    stop, sent = threading.Event(), Counter[str]()

    def pour() -> None:
        while not stop.is_set():
            topic = f"command//{DEVICE}/req/{secrets.token_hex(4)}/{secrets.token_hex(4)}"
            there.backend.client.publish(topic, secrets.token_bytes(2000), 0).wait_for_publish(10)
            sent["garbage"] += 1

    thread = threading.Thread(target=pour)
    thread.start()
    try:
        for number in range(5):
            there.works(f"meanwhile-{number}")
    finally:
        stop.set()
        thread.join(20)
    grown = peak_bytes(there) - before
    tell(f"{sent['garbage']:,} messages of garbage: memory grew by {grown >> 10:,} KiB")
    assert sent["garbage"] > 100
    assert grown < BOUND_BYTES
