"""The page at work: everything that a technician does at a device that is in order."""

import os
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from agent.faces.http import page as page_files
from tests.support.require import require

from .conftest import TOKEN, Cabinet, Person, changed_after_a_backup, previewed

Somebody = Callable[..., Person]


def test_signing_in_and_out(somebody: Somebody, cabinet: Cabinet) -> None:
    cabinet.begin()
    person = somebody()
    page = person.page
    page.goto(cabinet.url)
    token = page.get_by_label("Token")
    expect(token).to_be_focused()
    token.fill("not-the-token-at-all")
    person.presses("Sign in")
    expect(page.locator("#sign-in-form .refusal")).to_have_text("The token is wrong")
    token.fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_be_visible()
    expect(page.locator("#main")).to_be_focused()
    assert [cookie["httpOnly"] for cookie in person.context.cookies()] == [True]
    assert TOKEN not in page.content()
    person.presses("Sign out")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    expect(page.locator("#device-view")).to_be_hidden()
    assert person.context.cookies() == []


def test_a_browser_that_keeps_no_cookie_is_told(somebody: Somebody, cabinet: Cabinet) -> None:
    """Otherwise the page would ask for the token again, which was right."""
    cabinet.begin()
    person = somebody()
    page = person.page
    page.goto(cabinet.url)
    page.route("**/session", lambda route: route.fulfill(status=204))  # as the agent, but for the cookie
    page.get_by_label("Token").fill(TOKEN)
    person.presses("Sign in")
    expect(page.locator("#sign-in-form .refusal")).to_contain_text("Allow cookies")


def test_an_expired_session_asks_for_the_token_again(technician: Person) -> None:
    technician.context.clear_cookies()
    technician.presses("Back up now")
    technician.signs_in_again()


def test_a_backup_is_made_and_everything_tells_of_it(technician: Person) -> None:
    page = technician.page
    expect(page.locator("#verdict")).to_have_text("The device is not protected")
    technician.sees("There is no good backup yet.")
    technician.presses("Back up now")
    expect(page.locator("#now-title")).to_have_text("Backup finished")
    expect(page.locator("#now-title")).to_be_focused()
    expect(page.locator("#result-sentence")).to_contain_text("3 files")
    technician.presses("Close")
    expect(page.locator("#now")).to_be_hidden()
    expect(page.locator("#verdict")).to_have_text("All is well")
    technician.sees("The last good backup ended today")
    expect(page.locator("#jobs > li")).to_have_count(1)
    expect(page.locator("#archives > li")).to_have_count(1)
    page.locator("#jobs summary").click()
    expect(page.locator("#jobs .story")).to_contain_text("SHA-256")
    expect(page.locator("#skipped-sentence")).to_have_text("The last backup skipped nothing.")


def test_progress_is_shown_and_a_backup_cancelled(somebody: Somebody, cabinet: Cabinet) -> None:
    """The device is slow, so that the backup goes on until it is cancelled."""
    (cabinet.data / "big").write_bytes(os.urandom(64 << 20))
    cabinet.begin(transfer_rateLimit="512KiB")
    person = somebody().comes()
    page = person.page
    person.presses("Back up now")
    expect(page.locator("#now-title")).to_have_text("Backup is running")
    expect(page.locator("#now-title")).to_be_focused()
    expect(page.locator("#phase")).to_have_text("Archiving")
    expect(page.locator("#amount")).to_contain_text("a second")
    person.presses("Back up now")
    expect(page.locator("#backup-form .refusal")).to_contain_text("in progress")
    person.presses("Cancel the backup")
    expect(page.locator("#now-title")).to_have_text("Backup failed")
    expect(page.locator("#result-sentence")).to_contain_text("(cancelled)")
    expect(page.locator("#jobs > li")).to_contain_text("Backup failed: cancelled")


def test_name_and_description_are_told_by_the_archive(technician: Person) -> None:
    page = technician.page
    page.get_by_text("Name, description, passcode").click()
    page.get_by_label("Name").fill("before-update")
    page.get_by_label("Description").fill("before the firmware update")
    technician.backs_up()
    technician.presses("Open")
    expect(page.locator("#archive-facts")).to_contain_text("before the firmware update")
    expect(page.locator("#archive-facts")).to_contain_text("before-update-")
    technician.presses("Close")
    expect(page.locator("#archive")).to_be_hidden()


def test_an_archive_is_browsed_and_a_file_saved(technician: Person, cabinet: Cabinet, tmp_path: Path) -> None:
    page, many = technician.page, cabinet.data / "many"
    many.mkdir()
    for number in range(130):
        (many / f"{number:03}").touch()
    technician.backs_up()
    technician.presses("Open")
    expect(page.locator("#archive-title")).to_be_focused()
    technician.presses("many/")
    expect(page.locator("#files > li")).to_have_count(100)
    technician.presses("Show more files")
    expect(page.locator("#files > li")).to_have_count(130)
    technician.presses("All files")
    technician.presses("config/")
    expect(page.get_by_role("button", name="config")).to_be_focused()
    assert saved(page, "app.json", tmp_path) == (cabinet.data / "config/app.json").read_bytes()


def saved(page: Page, name: str, directory: Path) -> bytes:
    """Download a file, and return what the browser has saved."""
    with page.expect_download() as download:
        page.locator("#files > li", has_text=name).get_by_role("button").click()
    download.value.save_as(directory / "saved")
    return (directory / "saved").read_bytes()


HOSTILE = "<img src=x onerror=alert(1)>.html"


def test_hostile_names_and_content_do_nothing(technician: Person, cabinet: Cabinet, tmp_path: Path) -> None:
    """They are shown as text, and saved; a dialog or an error of the page would fail the test."""
    content = (
        b"<script>alert(document.cookie); fetch('/api/v1/schedule/deactivate', {method: 'POST'})</script>"
    )
    (cabinet.data / HOSTILE).write_bytes(content)
    os.mkfifo(cabinet.data / f"{HOSTILE}.fifo")
    page = technician.page
    page.get_by_text("Name, description, passcode").click()
    page.get_by_label("Description").fill(HOSTILE)
    technician.backs_up()
    expect(page.locator("#skipped-names")).to_have_text(f"{HOSTILE}.fifo: FIFO")
    page.locator("#jobs summary").click()
    expect(page.locator("#jobs .story")).to_contain_text(HOSTILE)
    technician.presses("Open")
    expect(page.locator("#files")).to_contain_text(HOSTILE)
    expect(page.locator("#archive-facts")).to_contain_text(HOSTILE)
    assert saved(page, HOSTILE, tmp_path) == content
    assert page.locator("img").count() == 0
    # Nor does it run when somebody follows the address itself: the browser saves it.
    archive = page.locator("#archive-facts dd").last.inner_text()
    address = f"{cabinet.url}api/v1/archives/device/{archive}/files/content?path={HOSTILE}"
    with page.expect_download() as download:
        page.evaluate("address => { location.href = address; }", address)
    assert Path(download.value.path()).read_bytes() == content


# Restoring


def step(person: Person) -> str:
    return person.page.locator("#steps [aria-current=step]").inner_text()


def test_a_restore_is_previewed_finalized_and_confirmed(technician: Person, cabinet: Cabinet) -> None:
    page = technician.page
    changed_after_a_backup(technician, cabinet)
    previewed(technician, mode="are all removed")
    assert step(technician) == "Finalize"
    counts = page.locator("#preview-counts")
    expect(counts.locator("div", has_text="Added")).to_contain_text("1")
    expect(counts.locator("div", has_text="Removed")).to_contain_text("1")
    expect(page.locator("#preview-lost li")).to_have_text("new.txt")
    assert (cabinet.data / "config/app.json").read_bytes() == b"{"
    technician.presses("Finalize: replace the data now")
    expect(page.locator("#confirming")).to_be_visible()
    assert step(technician) == "Confirm"
    expect(page.locator("#countdown")).to_have_text(re.compile("^(9|10):[0-5][0-9]$"))
    assert (cabinet.data / "config/app.json").read_bytes() == b'{"interval": 30}\n'
    technician.presses("Confirm: keep the new data")
    expect(page.locator("#now-title")).to_have_text("Restore finished")
    assert not (cabinet.data / "new.txt").exists()
    assert (cabinet.data / "start.sh").exists()


def test_a_restore_that_nobody_confirms_brings_the_old_data_back(
    technician: Person, cabinet: Cabinet
) -> None:
    page = technician.page
    changed_after_a_backup(technician, cabinet)
    previewed(technician)
    # Nobody wants to wait for five minutes.
    page.locator("#finalize-form option").first.evaluate("option => { option.value = '2s'; }")
    page.get_by_label("Go back to the old data by itself, unless I confirm within").select_option("2s")
    technician.presses("Finalize: replace the data now")
    expect(page.locator("#confirming")).to_be_visible()
    expect(page.locator("#now-title")).to_have_text("Restore failed")
    expect(page.locator("#result-sentence")).to_contain_text("(not-confirmed)")
    expect(page.locator("#verdict")).to_have_text("Something needs attention")
    assert (cabinet.data / "config/app.json").read_bytes() == b"{"
    assert (cabinet.data / "new.txt").exists()


def test_the_old_data_is_put_back_at_once_when_the_device_does_not_work(
    technician: Person, cabinet: Cabinet
) -> None:
    changed_after_a_backup(technician, cabinet)
    previewed(technician)
    technician.presses("Finalize: replace the data now")
    technician.presses("Put the old data back")
    expect(technician.page.locator("#now-title")).to_have_text("Restore failed")
    assert (cabinet.data / "config/app.json").read_bytes() == b"{"


def test_a_preview_is_discarded(technician: Person, cabinet: Cabinet) -> None:
    changed_after_a_backup(technician, cabinet)
    previewed(technician)
    technician.presses("Discard the preview")
    expect(technician.page.locator("#now")).to_be_hidden()
    expect(technician.page.locator("#restore-title")).to_be_focused()
    assert (cabinet.data / "config/app.json").read_bytes() == b"{"


def test_an_encrypted_archive_is_opened_with_its_passcode(technician: Person, cabinet: Cabinet) -> None:
    page = technician.page
    page.get_by_text("Name, description, passcode").click()
    page.get_by_label("Passcode", exact=False).first.fill("a long passcode")
    changed_after_a_backup(technician, cabinet)
    expect(page.locator("#backup-form [name=passcode]")).to_have_value("")
    technician.presses("Open", exact=False)
    expect(page.locator("#restore-part")).to_be_hidden()
    secret = page.get_by_label("Passcode, or private key")
    secret.fill("another passcode")
    technician.presses("Open the archive", exact=True)
    expect(page.locator("#unlock .refusal")).to_be_visible()
    secret.fill("a long passcode")
    technician.presses("Open the archive", exact=True)
    expect(page.locator("#files-title")).to_be_focused()
    expect(page.locator("#files")).to_contain_text("start.sh")
    technician.presses("Preview the restore")
    expect(page.locator("#preview")).to_be_visible()


def test_data_sets_are_chosen_for_backup_and_restore(somebody: Somebody, cabinet: Cabinet) -> None:
    paths = {"config": [str(cabinet.data / "config")], "logs": [str(cabinet.data / "logs")]}
    cabinet.begin(dir="", dataSets={name: {"paths": each} for name, each in paths.items()})
    person = somebody().comes()
    page = person.page
    what = page.get_by_role("group", name="What", exact=True)
    expect(what.get_by_label("config")).to_be_checked()
    person.backs_up()
    person.presses("Open")
    expect(page.locator("#archive-facts")).to_contain_text("config, logs")
    page.get_by_role("group", name="Which data").get_by_label("logs").uncheck()
    person.presses("Preview the restore")
    expect(page.locator("#preview-sentence")).to_contain_text("would change nothing")


# The rest


def test_periodic_backups_are_switched_on_and_off(technician: Person) -> None:
    page = technician.page
    expect(page.locator("#schedule-sentence")).to_contain_text("Off")
    page.get_by_text("From and until").click()
    begin = datetime.now() + timedelta(hours=3)  # noqa: DTZ005 (a person's wall clock)
    page.get_by_label("From", exact=True).fill(begin.strftime("%Y-%m-%dT%H:%M"))
    technician.presses("Switch on")
    expect(page.locator("#schedule-sentence")).to_contain_text("On: a backup every 10h")
    technician.sees("The next one runs t")
    technician.presses("Switch off")
    expect(page.locator("#schedule-sentence")).to_contain_text("Off")
    expect(page.locator("#schedule-on")).to_be_focused()


def test_schedules_by_the_clock_are_shown(somebody: Somebody, cabinet: Cabinet) -> None:
    cabinet.begin(schedules={"nightly": {"times": "02:00", "timezone": "UTC"}})
    page = somebody().comes().page
    expect(page.locator("#schedules li")).to_have_text(re.compile("nightlyNext (today|tomorrow) at "))
    expect(page.locator("#reasons")).to_contain_text("The next one runs t")


def test_a_time_that_makes_no_sense_is_refused_where_it_was_given(technician: Person) -> None:
    page = technician.page
    page.get_by_text("From and until").click()
    page.get_by_label("From", exact=True).fill("2030-01-02T00:00")
    page.get_by_label("Until", exact=True).fill("2030-01-01T00:00")
    technician.presses("Switch on")
    expect(page.locator("#schedule-form .refusal")).to_contain_text("is before the start")


def test_an_archive_that_waits_for_its_upload_is_given_up(technician: Person) -> None:
    page = technician.page
    page.get_by_label("On the device").check()
    technician.backs_up()
    expect(page.locator("#uploads li")).to_have_count(1)
    expect(page.get_by_label("On the device")).to_be_checked()
    technician.presses("Give up")
    expect(page.locator("#uploads")).to_be_hidden()


def test_what_a_backup_would_save_now_is_counted(technician: Person, cabinet: Cabinet) -> None:
    os.mkfifo(cabinet.data / "pipe")
    technician.presses("Count what a backup would save now")
    expect(technician.page.locator("#skipped-sentence")).to_contain_text("3 files")
    expect(technician.page.locator("#skipped-names")).to_contain_text("pipe: FIFO")


def test_older_jobs_and_archives_are_fetched_when_asked_for(somebody: Somebody, cabinet: Cabinet) -> None:
    cabinet.begin()
    for _ in range(21):
        cabinet.runs_backup()
    page = somebody().comes().page
    for kind in ("jobs", "archives"):
        expect(page.locator(f"#{kind} > li")).to_have_count(20)
        page.locator(f"#{kind}-more").click()
        expect(page.locator(f"#{kind} > li")).to_have_count(21)
        expect(page.locator(f"#{kind}-more")).to_be_hidden()


def test_a_job_of_somebody_else_is_shown_as_it_comes(technician: Person, cabinet: Cabinet) -> None:
    """Two people may look at one device, and its backend commands it meanwhile."""
    cabinet.runs_backup()
    expect(technician.page.locator("#jobs > li")).to_have_count(1)
    expect(technician.page.locator("#archives > li")).to_have_count(1)


def test_places_are_looked_at_again(technician: Person) -> None:
    technician.page.locator("#places-again").click()
    technician.page.locator("#archives-again").click()
    expect(technician.page.locator("#places-list > li")).to_have_count(1)
    expect(technician.page.locator("#archives-state")).to_have_text("No archives here.")


# At last


class Buttons(HTMLParser):
    """The buttons in the page's HTML: each has an id, or is the one that sends its form."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self._form = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = dict(attrs).get("id") or ""
        if tag == "form":
            self._form = name
        elif tag == "button":
            self.names.add(name or self._form)


def test_every_button_was_pressed(request: pytest.FixtureRequest, pressed: set[str]) -> None:
    """A button without a test has none of the promises of this page. Those of other files count, too."""
    here = [item for item in request.session.items if item.path == request.path]
    chosen = {getattr(item, "originalname", item.name) for item in here}
    written = set(re.findall(r"^def (test_\w+)", request.path.read_text("utf-8"), re.MULTILINE))
    require(chosen == written, "the other tests of this file")
    page = Path(page_files.__file__).parent
    made = set(re.findall(r'button\("([^"]+)"', (page / "page.js").read_text("utf-8")))
    assert made | Buttons((page / "index.html").read_text("utf-8")).names <= pressed
