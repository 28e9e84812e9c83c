"""The page's files: small, without inline code or style, and fetched anew after an update."""

import re
from html.parser import HTMLParser

import pytest

from agent.faces.http.message import Peer, Request, Response
from agent.faces.http.page import page_routes

FILES = {route.template: route.handler for route in page_routes()}
LARGEST_BYTES = 60 << 10


def fetch(path: str, **headers: str) -> Response:
    return FILES[path](Request("GET", path, "", headers, b"", Peer("127.0.0.1")))


def text_of(path: str) -> str:
    body = fetch(path).body
    assert isinstance(body, bytes)
    return body.decode("utf-8")


def test_the_whole_page_is_small() -> None:
    """It is loaded over the slow link of a device in the field."""
    assert sum(len(text_of(path).encode()) for path in FILES) < LARGEST_BYTES


def test_nobody_has_to_sign_in_for_the_page_itself() -> None:
    """It shows the sign-in, and says nothing of the device."""
    assert all(route.is_public and route.method == "GET" for route in page_routes())


@pytest.mark.parametrize("path", FILES)
def test_a_browser_asks_for_each_file_again_and_gets_it_when_it_has_changed(path: str) -> None:
    """A page of an earlier version would ask an API of a later one."""
    whole = fetch(path)
    tag = whole.headers["ETag"]
    assert (whole.status, whole.headers["Cache-Control"]) == (200, "no-cache")
    unchanged = fetch(path, **{"if-none-match": f'"other", W/{tag}'})
    assert (unchanged.status, unchanged.body, unchanged.headers["ETag"]) == (304, b"", tag)
    assert fetch(path, **{"if-none-match": '"other"'}).status == 200


def test_the_policy_forbids_everything_but_the_page_itself() -> None:
    policy = fetch("/").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_html_has_no_code_no_style_and_nothing_from_elsewhere() -> None:
    """The policy would stop it; a page that needs what it forbids is broken."""
    for tag, attributes in Elements(text_of("/")).found:
        assert tag != "style"
        assert tag != "script" or attributes == {"type": "module", "src": "page.js"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        address = attributes.get("href") or attributes.get("src") or ""
        assert "/" not in address, address
    assert "url(" not in text_of("/page.css")
    assert "@import" not in text_of("/page.css")


def test_no_passcode_is_filled_in_by_the_browser() -> None:
    """Browsers put a saved token into every field for a password that does not ask for a new one."""
    fields = [attributes for tag, attributes in Elements(text_of("/")).found if tag == "input"]
    secret = {each["name"]: each["autocomplete"] for each in fields if each.get("type") == "password"}
    assert secret == {"token": "current-password", "passcode": "new-password", "secret": "new-password"}


def test_no_text_becomes_markup() -> None:
    """Names of files and messages come from the device: `<img onerror=…>` stays a text."""
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|Function\(", text_of("/page.js")
    )


def test_every_element_that_the_module_names_exists_once() -> None:
    """A wrong id would show itself at a button that is rarely pressed."""
    ids = [attributes["id"] for _, attributes in Elements(text_of("/")).found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'\$\("([\w-]+)"\)', text_of("/page.js"))) <= set(ids)
