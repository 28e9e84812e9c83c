"""A person in front of the device: Chromium, started once for each file, and an agent for each test."""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.support.agent_process import AgentProcess
from tests.support.api_client import ApiClient
from tests.support.mosquitto import Mosquitto, mosquitto
from tests.support.ports import free_port
from tests.support.require import require
from tests.support.settings_files import private_file
from tests.support.trees import Dir, File, Link, Spec, make_tree
from tests.support.waiting import wait_until

TOKEN = "the-token-of-this-device"
PATIENCE_MS = 30_000
SAMPLE: Spec = {
    "config": Dir(0o750),
    "config/app.json": File(b'{"interval": 30}\n', 0o600),
    "config/current": Link("app.json"),
    "logs": Dir(),
    "logs/app.log": File(b"".join(b"%08d INFO value=%d\n" % (n, n * 37 % 1000) for n in range(20_000))),
    "start.sh": File(b"#!/bin/sh\nexec ./app\n", 0o755),
}
_WATCH = """
addEventListener("click", (event) => {
  const button = event.target.closest?.("button");
  if (button) notePress(button.id || button.form?.id || button.firstChild.textContent);
}, true);
"""


class Cabinet(AgentProcess):
    """A device whose agent shows its page on a loopback port."""

    def __init__(self, work: Path, broker: Mosquitto) -> None:
        super().__init__(work, broker.port)
        self.broker, self.port = broker, free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        token = work / "token"
        private_file(token, TOKEN)
        self.settings |= {
            "deviceId": "edge:press-7",
            "http.listen": f"127.0.0.1:{self.port}",
            "http.tokenFile": str(token),
            "logLevel": "INFO",
        }

    def begin(self, **settings: Any) -> "Cabinet":
        """Start the agent with further settings; return when its page can be loaded."""
        self.settings |= {key.replace("_", "."): value for key, value in settings.items()}
        self.start()
        wait_until(self._listens, what="the agent to listen")
        return self

    def runs_backup(self) -> None:
        """Make a backup as the command line does, and wait for its end."""
        api = ApiClient(self.storage / "http.sock")
        begun = api.post("/jobs", {"operation": "backup", "options": {"storage.provider": "local"}})
        with api.events(f"/jobs/{begun.value['id']}/events") as events:
            assert [event.name for event in events][-1] == "end"

    def _listens(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.stderr.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class Person:
    """Somebody with a browser. Errors that the page prints, and code that runs unasked, fail the test."""

    def __init__(self, context: BrowserContext, cabinet: Cabinet) -> None:
        self.context, self.cabinet = context, cabinet
        self.page: Page = context.new_page()
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", self._printed)
        self.page.on("dialog", lambda dialog: self.faults.append(f"a dialog: {dialog.message}"))

    def _printed(self, message: ConsoleMessage) -> None:
        # Chromium prints each answer that is no 2xx; tests ask for those on purpose.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.faults.append(message.text)

    def signs_in(self) -> None:
        """Open the page, signed in."""
        answer = self.context.request.post(f"{self.cabinet.url}session", data={"token": TOKEN})
        assert answer.status == 204, answer.text()
        self.page.goto(self.cabinet.url)

    def comes(self) -> "Person":
        """Open the page, signed in; return when it follows the events."""
        self.signs_in()
        expect(self.page.locator("#link")).to_have_text("Connected")
        return self

    def signs_in_again(self) -> None:
        """Give the token when the page asks for it, and wait until all is shown."""
        expect(self.page.locator("#sign-in-why")).to_have_text("Your session has ended. Sign in again.")
        self.page.get_by_label("Token").fill(TOKEN)
        self.presses("Sign in")
        expect(self.page.locator("#verdict")).to_be_visible()
        expect(self.page.locator("#link")).to_have_text("Connected")

    def presses(self, name: str, **within: Any) -> None:
        self.page.get_by_role("button", name=name, **within).click()

    def sees(self, text: str) -> None:
        expect(self.page.get_by_text(text).first).to_be_visible()

    def backs_up(self) -> None:
        """Back up, and wait for the end."""
        self.presses("Back up now")
        expect(self.page.locator("#now-title")).to_have_text("Backup finished")
        self.page.locator("#result-close").click()


def changed_after_a_backup(person: Person, cabinet: Cabinet) -> None:
    """Make a backup, then change one file, add one and remove one."""
    person.backs_up()
    (cabinet.data / "config/app.json").write_bytes(b"{")
    (cabinet.data / "new.txt").write_bytes(b"new")
    (cabinet.data / "start.sh").unlink()


def previewed(person: Person, *, mode: str = "stay") -> None:
    """Ask for a preview of the newest archive, and wait for it."""
    person.presses("Open", exact=False)
    person.presses("Restore…")
    expect(person.page.locator("#restore-part-title")).to_be_focused()
    person.page.get_by_label(mode, exact=True).check()
    person.presses("Preview the restore")
    expect(person.page.locator("#archive")).to_be_hidden()
    expect(person.page.locator("#preview")).to_be_visible()
    expect(person.page.locator("#now-title")).to_be_focused()


@pytest.fixture(scope="session")
def pressed() -> set[str]:
    """Every button that was pressed: its id, that of its form, or its label."""
    return set()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    require(program is not None, "chromium (Debian package chromium)")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        with closing(browser):
            yield browser


@pytest.fixture(scope="module")
def hall(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """A broker for all tests of a file."""
    with mosquitto(tmp_path_factory.mktemp("hall")) as running:
        yield running


@pytest.fixture
def cabinet(tmp_path: Path, hall: Mosquitto) -> Iterator[Cabinet]:
    """A device with some data on it; its agent is not yet started."""
    cabinet = Cabinet(tmp_path / "device", hall)
    make_tree(cabinet.data, SAMPLE)
    try:
        yield cabinet
    finally:
        if cabinet.process and cabinet.process.poll() is None:
            cabinet.kill()


@pytest.fixture
def somebody(chromium: Browser, cabinet: Cabinet, pressed: set[str]) -> Iterator[Callable[..., Person]]:
    """Lets somebody with a browser of its own come to the device; takes the options of a context."""
    people: list[Person] = []

    def somebody(**options: Any) -> Person:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(PATIENCE_MS)
        context.expose_function("notePress", lambda name: pressed.add(name))  # noqa: PLW0108 (playwright marks it)
        context.add_init_script(_WATCH)
        people.append(Person(context, cabinet))
        return people[-1]

    yield somebody
    for person in people:
        person.context.close()
        assert person.faults == []


@pytest.fixture
def technician(somebody: Callable[..., Person], cabinet: Cabinet) -> Person:
    """Somebody who is signed in, at a device that runs."""
    cabinet.begin()
    return somebody().comes()
