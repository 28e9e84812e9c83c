"""The page for everybody: by keyboard alone, read aloud, narrow, in the dark; and its pictures."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.support.png import with_palette
from tests.support.require import require
from tests.support.trees import Dir, File, Spec, make_tree

from .conftest import TOKEN, Cabinet, Person, previewed

Somebody = Callable[..., Person]
AXE = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    / "edge-backup-tests/node_modules/axe-core/axe.min.js"
)
"""Where `.ci/run` puts it."""
WIDE, NARROW = ViewportSize(width=1280, height=860), ViewportSize(width=360, height=740)
IMAGES = Path(__file__).parents[2] / "docs" / "images"
PICTURED = ("well", "archive", "preview", "confirm")
LARGEST_BYTES = 64 << 10
DATA: Spec = {
    "network": Dir(),
    "network/lan.conf": File(b"dhcp=yes\n"),
    "network/wlan.conf": File(b"ssid=hall-7\n"),
    "program": Dir(),
    "program/press": File(bytes(1 << 20)),
    "recipes": Dir(),
    "recipes/bread-8.json": File(b"{}"),
    "recipes/bread-9.json": File(b"{}"),
}


@pytest.fixture
def plant() -> Iterator[Path]:
    """A directory with a short name, for the pictures."""
    with TemporaryDirectory(prefix="plant-") as path:
        yield Path(path)


def states(person: Person, cabinet: Cabinet) -> Iterator[str]:
    """Bring the page into each of its states, and yield a name for it."""
    page = person.page
    yield "new"
    for box in page.get_by_role("group", name="What", exact=True).get_by_role("checkbox").all():
        box.check()
    person.backs_up()
    yield "well"
    (cabinet.data / "network/wlan.conf").write_bytes(b"ssid=hall-4\n")
    (cabinet.data / "recipes/bread-9.json").unlink()
    (cabinet.data / "recipes/test.json").write_bytes(b"{}")
    page.locator("#jobs summary").first.click()
    expect(page.locator("#jobs .story").first).to_contain_text("SHA-256")
    page.get_by_text("Name, description, passcode").click()
    page.get_by_text("From and until").click()
    yield "opened"
    person.presses("Open")
    expect(page.locator("#files > li").first).to_be_visible()
    yield "archive"
    page.locator("#archive-close").click()
    previewed(person, mode="are all removed")
    yield "preview"
    person.presses("Finalize: replace the data now")
    expect(page.locator("#confirming")).to_be_visible()
    yield "confirm"
    person.presses("Back up now")
    expect(page.locator(".refusal")).to_be_visible()
    yield "refused"
    person.presses("Put the old data back")
    expect(page.locator("#result")).to_be_visible()
    yield "reverted"
    person.presses("Sign out")
    yield "signed-out"


def test_every_state_can_be_read_by_everybody(somebody: Somebody, cabinet: Cabinet, plant: Path) -> None:
    """Rules of WCAG, contrast in the dark, no sideways scrolling, and room for a gloved finger."""
    require(AXE.exists(), "axe-core (npm)")
    cabinet.data = plant / "data"
    make_tree(cabinet.data, DATA)
    (plant / "stick").mkdir()
    cabinet.begin(
        active=True,
        period="12h",
        dir=str(cabinet.data),
        dataSets={name: {"paths": [str(cabinet.data / name)]} for name in ("network", "program", "recipes")},
        targets={"stick": {"path": str(plant / "stick")}},
    )
    person = somebody(bypass_csp=True).comes()
    page = person.page
    expect(page.locator("#uploads li")).to_have_count(1)
    for state in states(person, cabinet):
        page.evaluate("scrollTo(0, 0)")
        assert (state, axe(page, "{}")) == (state, [])
        picture(page, state, "1280")
        page.emulate_media(color_scheme="dark")
        assert (state, axe(page, "{runOnly: ['color-contrast']}")) == (state, [])
        picture(page, state, "1280-dark")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size(NARROW)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert (state, width, small_targets(page)) == (state, NARROW["width"], [])
        picture(page, state, "360")
        page.set_viewport_size(WIDE)


def axe(page: Page, options: str) -> list[str]:
    page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate(f"() => axe.run({options})")
    return [
        f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
        for violation in found["violations"]
        for node in violation["nodes"]
    ]


def small_targets(page: Page) -> list[str]:
    """Return what is pressed and lower than 44 pixels."""
    pressed = "button, summary, select, label.choice, .field input"
    return list(
        page.evaluate(
            """pressed => [...document.querySelectorAll(pressed)]
            .filter((node) => node.checkVisibility() && node.getBoundingClientRect().height < 44)
            .map((node) => node.outerHTML.slice(0, 120))""",
            pressed,
        )
    )


def picture(page: Page, state: str, kind: str) -> None:
    """Make a picture for the documents anew, when PICTURES=1 asks for that."""
    if os.environ.get("PICTURES") == "1" and state in PICTURED:
        page.mouse.move(0, 0)
        taken = page.screenshot(animations="disabled", caret="hide")
        (IMAGES / f"page-{state}-{kind}.png").write_bytes(with_palette(taken))


def test_the_pictures_are_there_and_small() -> None:
    """They are in the repository: a large one would stay in its history for ever."""
    names = {f"page-{state}-{kind}.png" for state in PICTURED for kind in ("1280", "1280-dark", "360")}
    assert {path.name for path in IMAGES.glob("page-*")} == names
    assert [path.name for path in IMAGES.iterdir() if path.stat().st_size > LARGEST_BYTES] == []


# By keyboard


class Keyboard:
    """Hands that have no mouse. What has the focus has to show it."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def presses(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def goes_to(self, label: str) -> None:
        """Press Tab until something with this label has the focus."""
        for _ in range(80):
            self.page.keyboard.press("Tab")
            text, is_shown = self.page.evaluate(_FOCUSED)
            assert is_shown, f"nobody sees that {text!r} has the focus"
            if text.startswith(label):
                return
        raise AssertionError(f"Tab does not lead to {label!r}")

    def activates(self, label: str) -> None:
        self.goes_to(label)
        self.presses("Enter")


_FOCUSED = """() => {
  const node = document.activeElement, style = getComputedStyle(node.closest(".choice") ?? node);
  const text = node.labels?.length ? node.labels[0].innerText : node.innerText;
  const isOutlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 1;
  return [text.trim(), isOutlined || node === document.body];
}"""
"""The label of what has the focus, and whether that is seen; the browser's own bar shows its focus itself."""


def test_a_whole_restore_by_keyboard(somebody: Somebody, cabinet: Cabinet) -> None:
    """From the sign-in to the confirmation, with the focus always where the next step is."""
    cabinet.begin()
    person = somebody()
    page, hands = person.page, Keyboard(person.page)
    page.goto(cabinet.url)
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(TOKEN)
    hands.presses("Enter")
    expect(page.locator("#main")).to_be_focused()
    hands.activates("Back up now")
    expect(page.locator("#now-title")).to_have_text("Backup finished")
    expect(page.locator("#now-title")).to_be_focused()
    hands.activates("Close")
    expect(page.locator("#backup-title")).to_be_focused()
    (cabinet.data / "new.txt").write_bytes(b"new")
    hands.activates("Open")
    expect(page.locator("#archive-title")).to_be_focused()
    expect(page.locator("#files > li").first).to_be_visible()
    hands.presses("Escape")
    expect(page.locator("#archive")).to_be_hidden()
    expect(page.get_by_role("button", name="Open")).to_be_focused()
    hands.presses("Enter")
    hands.activates("Restore…")
    expect(page.locator("#restore-part-title")).to_be_focused()
    hands.goes_to("stay")
    hands.presses("ArrowDown", "ArrowDown")
    hands.activates("Preview the restore")
    expect(page.locator("#preview-lost li")).to_have_text("new.txt")
    expect(page.locator("#now-title")).to_be_focused()
    hands.activates("Finalize")
    expect(page.locator("#confirming")).to_be_visible()
    expect(page.locator("#now-title")).to_be_focused()
    hands.activates("Confirm")
    expect(page.locator("#now-title")).to_have_text("Restore finished")
    assert not (cabinet.data / "new.txt").exists()


def test_the_content_is_reached_with_one_step(technician: Person) -> None:
    technician.page.keyboard.press("Tab")
    expect(technician.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    technician.page.keyboard.press("Enter")
    expect(technician.page.locator("#main")).to_be_focused()


def test_what_changes_is_read_aloud(technician: Person) -> None:
    """The page tells a screen reader of the beginning and the end of a job, and of every refusal at once."""
    page = technician.page
    said: list[str] = []
    page.expose_function("note", lambda text: said.append(text))  # noqa: PLW0108 (playwright marks it)
    page.evaluate(
        """() => {
          const announcer = document.getElementById("announcer");
          const watch = new MutationObserver(() => note(announcer.textContent));
          watch.observe(announcer, {childList: true, characterData: true, subtree: true});
        }"""
    )
    technician.backs_up()
    assert said[-1].startswith("Backup finished today at ")
    page.get_by_text("From and until").click()
    page.get_by_label("From", exact=True).fill("2030-01-02T00:00")
    page.get_by_label("Until", exact=True).fill("2030-01-01T00:00")
    technician.presses("Switch on")
    expect(page.get_by_role("alert")).to_contain_text("is before the start")
