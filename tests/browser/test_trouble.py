"""The page when something is wrong: a stick that is gone, a full disk, no broker, no agent."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import pytest
from playwright.sync_api import Request, expect

from tests.support.mosquitto import mosquitto
from tests.support.unmounting import unmount

from .conftest import TOKEN, Cabinet, Person, changed_after_a_backup, previewed

Somebody = Callable[..., Person]
LOST = "The agent does not answer. Trying again…"


@pytest.fixture
def stick(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, which is plugged in."""
    path = tmp_path / "usb"
    path.mkdir()
    plug_in(path)
    yield path
    if path.is_mount():
        unmount(path)


def plug_in(path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "stick", str(path)], check=True)


def with_a_stick(somebody: Somebody, cabinet: Cabinet, stick: Path) -> Person:
    cabinet.begin(targets={"usb": {"path": str(stick), "mount": True}})
    return somebody().comes()


def test_a_stick_that_is_unplugged_is_named_and_used_again(
    somebody: Somebody, cabinet: Cabinet, stick: Path
) -> None:
    person = with_a_stick(somebody, cabinet, stick)
    page = person.page
    expect(page.locator("#places-list li")).to_contain_text("Plugged in")
    unmount(stick)
    person.presses("Back up now")
    expect(page.locator("#backup-form .refusal")).to_contain_text("usb")
    page.locator("#places-again").click()
    expect(page.locator("#places-list li")).to_contain_text("Not plugged in")
    expect(page.locator("#destinations .absent")).to_contain_text("usb")
    plug_in(stick)
    page.locator("#places-again").click()
    expect(page.locator("#places-list li")).to_contain_text("Plugged in")
    person.backs_up()
    expect(page.locator("#backup-form .refusal")).to_have_count(0)


def test_a_backup_that_does_not_fit_says_what_helps(
    somebody: Somebody, cabinet: Cabinet, stick: Path
) -> None:
    (cabinet.data / "big").write_bytes(os.urandom(4 << 20))
    person = with_a_stick(somebody, cabinet, stick)
    page = person.page
    person.presses("Back up now")
    expect(page.locator("#now-title")).to_have_text("Backup failed")
    expect(page.locator("#result-sentence")).to_contain_text("(no-space)")
    expect(page.locator("#result-help")).to_contain_text("Make room")
    expect(page.locator("#reasons")).to_contain_text("Backup failed today")
    expect(page.locator("#verdict")).to_have_text("The device is not protected")


def test_a_device_whose_own_disk_is_full_refuses_where_the_button_is(
    stick: Path, somebody: Somebody, cabinet: Cabinet
) -> None:
    """Nothing can be accepted when the journal cannot be written."""
    cabinet.storage = stick / "storage"
    cabinet.begin(
        storage=str(cabinet.storage), storage_reserve=0, targets={"away": {"path": str(cabinet.work)}}
    )
    person = somebody().comes()
    fill(stick)
    person.presses("Back up now")
    refusal = person.page.locator("#backup-form .refusal")
    expect(refusal).to_be_visible()
    assert "disk" in refusal.inner_text() or "journal" in refusal.inner_text()


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_without_its_broker_the_device_is_still_served(somebody: Somebody, cabinet: Cabinet) -> None:
    """The person in front of it is often there because the network is not."""
    with mosquitto(cabinet.work / "broker") as broker:
        cabinet.begin(broker=f"tcp://127.0.0.1:{broker.port}")
        person = somebody().comes()
    person.backs_up()
    expect(person.page.locator("#verdict")).to_have_text("All is well")


def test_an_agent_that_is_lost_in_the_middle_of_a_restore_comes_back(
    technician: Person, cabinet: Cabinet
) -> None:
    """The restore waits for its confirmation, and the agent loses its power meanwhile."""
    page = technician.page
    changed_after_a_backup(technician, cabinet)
    previewed(technician)
    technician.presses("Finalize: replace the data now")
    expect(page.locator("#confirming")).to_be_visible()
    seen: list[Request] = []
    page.on("request", lambda request: seen.append(request))  # noqa: PLW0108 (playwright marks it)
    cabinet.kill()
    expect(page.locator("#link")).to_have_text(LOST)
    technician.presses("Confirm: keep the new data")
    expect(page.locator("#confirming .refusal")).to_have_text("The agent does not answer. Is it running?")
    cabinet.begin()
    technician.signs_in_again()
    resumed = [request for request in seen if request.url.endswith("/events")]
    assert any("last-event-id" in request.all_headers() for request in resumed)
    expect(page.locator("#confirming")).to_be_visible()
    technician.presses("Confirm: keep the new data")
    expect(page.locator("#now-title")).to_have_text("Restore finished")
    assert (cabinet.data / "config/app.json").read_bytes() == b'{"interval": 30}\n'


def test_an_agent_that_was_restarted_asks_for_the_token_again(technician: Person, cabinet: Cabinet) -> None:
    """It keeps sessions in its memory only."""
    page = technician.page
    cabinet.stop()
    expect(page.locator("#link")).to_have_text(LOST)
    cabinet.begin()
    technician.signs_in_again()
    technician.backs_up()


def test_what_happened_while_the_page_was_cut_off_is_shown(technician: Person, cabinet: Cabinet) -> None:
    page = technician.page
    technician.context.set_offline(True)
    cabinet.runs_backup()
    technician.context.set_offline(False)
    expect(page.locator("#jobs > li")).to_have_count(1)
    expect(page.locator("#archives > li")).to_have_count(1)


def test_a_page_that_may_not_follow_the_events_asks_now_and_then(
    somebody: Somebody, cabinet: Cabinet
) -> None:
    """Only four clients may follow them at a time."""
    cabinet.begin()
    with ExitStack() as followers:
        for _ in range(4):
            followers.enter_context(follower(cabinet))
        person = somebody().comes()
        cabinet.runs_backup()
        expect(person.page.locator("#jobs > li")).to_have_count(1)
        expect(person.page.locator("#archives > li")).to_have_count(1)


@contextmanager
def follower(cabinet: Cabinet) -> Iterator[None]:
    """Follow the events until the block ends."""
    with closing(HTTPConnection("127.0.0.1", cabinet.port, timeout=30)) as connection:
        connection.request("GET", "/api/v1/events", headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        assert answer.status == 200
        yield
        answer.close()


def test_a_page_that_may_not_ask_for_everything_shows_the_rest(somebody: Somebody, cabinet: Cabinet) -> None:
    cabinet.begin(allow_operations=["status", "history", "describe", "backup"])
    person = somebody().comes()
    page = person.page
    page.locator("#places-again").click()
    expect(page.locator("#places .refusal")).to_contain_text("allow.operations")
    person.backs_up()
    expect(page.locator("#uploads li")).to_have_count(1)


def test_a_page_that_may_not_even_ask_for_the_state_says_so(somebody: Somebody, cabinet: Cabinet) -> None:
    """Otherwise somebody would look for a fault of the agent or of the cable."""
    cabinet.begin(allow_operations=[])
    person = somebody()
    person.signs_in()
    expect(person.page.locator("#link")).to_contain_text("allow.operations")
