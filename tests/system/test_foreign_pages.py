"""A web page of somebody else in the technician's browser, which is signed in at the device.

The browser is real, so are its cookies, its rules and the headers that it sends or does not send.
"""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.support.browser import chromium
from tests.support.http_network import BEARER, TOKEN, Network
from tests.support.http_raw import Received
from tests.support.local_agent import LocalAgent, LocalBackend
from tests.support.settings_files import private_file
from tests.whole.conftest import backend, device  # noqa: F401 (fixtures)

OURS, FOREIGN, REBOUND = "gateway.local", "evil.example", "rebound.example"

ATTACK = """
async ([device, body]) => {
  const told = {};
  const tried = async (name, attempt) => {
    try { told[name] = await attempt(); } catch (error) { told[name] = `refused: ${error.name}`; }
  };
  const read = async (answer) => answer.type === "opaque" ? "nothing read" : `${answer.status}`;
  const post = (path, more) => fetch(device + path, {method: "POST", credentials: "include", body, ...more});
  await tried("no-cors", async () => read(await post("/api/v1/jobs", {mode: "no-cors"})));
  await tried("text", async () =>
    read(await post("/api/v1/jobs", {headers: {"Content-Type": "text/plain"}})));
  await tried("json", async () =>
    read(await post("/api/v1/jobs", {headers: {"Content-Type": "application/json"}})));
  await tried("delete", async () =>
    read(await fetch(device + "/session", {method: "DELETE", credentials: "include"})));
  await tried("document", async () => read(await post("/backup", {mode: "no-cors"})));
  await tried("get", async () => read(await fetch(device + "/api/v1/status", {credentials: "include"})));
  await tried("get-no-cors", async () =>
    read(await fetch(device + "/api/v1/status", {mode: "no-cors", credentials: "include"})));
  await tried("events", () => new Promise((resolve) => {
    const source = new EventSource(device + "/api/v1/events", {withCredentials: true});
    source.onopen = () => { source.close(); resolve("opened"); };
    source.onerror = () => { source.close(); resolve("refused: events"); };
  }));
  for (const [tag, path] of [["script", "/page.js"], ["script", "/api/v1/status"], ["img", "/icon.svg"]])
    await tried(`${tag} ${path}`, () => new Promise((resolve) => {
      const element = document.createElement(tag);
      element.onload = () => resolve("loaded");
      element.onerror = () => resolve("refused: element");
      element.src = device + path;
      document.body.append(element);
    }));
  const encoded = "application/x-www-form-urlencoded";
  for (const [type, path] of [["text/plain", "/api/v1/jobs"], [encoded, "/backup"]])
    await tried(`form ${path}`, () => new Promise((resolve) => {
      const frame = document.createElement("iframe"), form = document.createElement("form");
      const field = document.createElement("input");
      frame.name = `frame${path}`; form.target = frame.name; form.method = "POST";
      form.action = device + path; form.enctype = type;
      field.name = body; field.value = "";
      form.append(field); document.body.append(frame, form);
      frame.onload = () => resolve("sent");
      form.submit();
    }));
  await tried("frame", () => new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.onload = () => {
      try { resolve(frame.contentDocument ? "read" : "refused: another origin"); }
      catch (error) { resolve("refused: frame"); }
    };
    frame.src = device + "/";
    document.body.append(frame);
  }));
  return told;
}
"""
BODY = json.dumps({"operation": "backup", "name": "stolen"})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium(OURS, FOREIGN, REBOUND) as browser:
        yield browser


class _EvilPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>kittens</title><body>")

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def evil_port() -> Iterator[int]:
    """Somebody else's web server; for the browser, its names are other origins than the device's."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _EvilPage) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def network(device: LocalAgent, backend: LocalBackend, tmp_path: Path) -> Network:  # noqa: F811
    token = tmp_path / "token"
    private_file(token, TOKEN)
    device.settings |= {"http.listen": "127.0.0.1:0", "http.tokenFile": str(token), "http.hosts": OURS}
    device.start()
    backend.announced()
    return Network(device)


@pytest.fixture
def signed_in(network: Network, browser: Browser) -> Iterator[BrowserContext]:
    """The browser of a technician, who has signed in at the device by its address and by its name."""
    context = browser.new_context()
    for host in ("127.0.0.1", OURS):
        page = context.new_page()
        page.goto(url(network, host))
        assert page.evaluate(SIGN_IN, TOKEN) == 204
        page.close()
    yield context
    context.close()


SIGN_IN = """
async (token) => (await fetch("session", {
  method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify({token})
})).status
"""


def url(network: Network, host: str = "127.0.0.1") -> str:
    return f"http://{host}:{network.address[1]}"


def jobs(network: Network) -> Received:
    return network.ask("GET", "/api/v1/jobs", BEARER)


@pytest.mark.parametrize("host", ["127.0.0.1", OURS])
def test_our_own_page_may_do_everything(network: Network, signed_in: BrowserContext, host: str) -> None:
    """Over plain HTTP to a name, Chromium sends no Sec-Fetch-Site; Origin alone says that it is our page."""
    page = signed_in.new_page()
    page.goto(url(network, host))
    script = "async (path) => (await fetch(path, {method: path == 'session' ? 'DELETE' : 'GET'})).status"
    assert page.evaluate(script, "api/v1/status") == 200
    assert page.evaluate(script, "session") == 204
    assert page.evaluate(script, "api/v1/status") == 401


def attack(page: Page, origin: str, device_url: str) -> dict[str, str]:
    page.goto(origin)
    told = page.evaluate(ATTACK, [device_url, BODY])
    assert isinstance(told, dict)
    return told


@pytest.mark.parametrize("evil_host", [FOREIGN, "127.0.0.1", OURS])
@pytest.mark.parametrize("our_host", ["127.0.0.1", OURS])
def test_a_page_of_another_origin_changes_and_reads_nothing(
    network: Network, signed_in: BrowserContext, evil_port: int, evil_host: str, our_host: str
) -> None:
    """Also one on another port of the device itself, with which the browser sends the cookie."""
    changes = network.agent.count_log("http change carried out")
    told = attack(signed_in.new_page(), f"http://{evil_host}:{evil_port}/", url(network, our_host))
    may_send = ("no-cors", "document", "get-no-cors", "form /api/v1/jobs", "form /backup")
    read = {
        name: what
        for name, what in told.items()
        if not (what.startswith("refused") or (name in may_send and what in ("nothing read", "sent")))
    }
    assert read == {}
    assert len(told) == 14, told
    # They did come: the device has refused them, and not the browser.
    assert network.agent.count_log("http change refused") >= 4
    assert network.agent.count_log("http change carried out") == changes
    assert jobs(network).json["jobs"] == []
    page = signed_in.new_page()
    page.goto(url(network, our_host))
    assert page.evaluate("async () => (await fetch('api/v1/status')).status") == 200  # still signed in


def test_a_page_whose_name_was_rebound_to_the_device_gets_nothing(network: Network, browser: Browser) -> None:
    """Its name led elsewhere when it was loaded, and leads here now: for the browser it is our origin."""
    page = browser.new_page()
    origin = url(network, REBOUND)
    page.route(f"{origin}/", lambda route: route.fulfill(content_type="text/html", body="<body>kittens"))
    page.goto(f"{origin}/")
    script = """async ([method, path]) => {
      const post = {method, headers: {"Content-Type": "application/json"}, body: '{"token": "guess"}'};
      const answer = await fetch(path, method == "POST" ? post : {});
      return [answer.status, (await answer.json()).detail];
    }"""
    for method, path in (("GET", "api/v1/status"), ("POST", "session"), ("GET", "page.js")):
        status, detail = page.evaluate(script, [method, path])
        assert (status, "http.hosts" in detail) == (421, True)
    assert network.agent.count_log("http token refused") == 0
    page.close()


def test_a_name_that_is_not_set_is_told_to_the_person_who_types_it(
    network: Network, browser: Browser
) -> None:
    page = browser.new_page()
    answer = page.goto(url(network, REBOUND))
    assert answer
    assert (answer.status, "http.hosts" in answer.text()) == (421, True)
    page.close()
