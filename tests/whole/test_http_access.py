"""Which requests are for the agent, and over which sockets: a real socket, and a test for each rule."""

import http.client
import json
import os
import socket
import ssl
import stat
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from tests.support.http_network import BEARER, TOKEN, Network
from tests.support.http_raw import RawClient, Received
from tests.support.local_agent import LocalAgent
from tests.whole.conftest import Started

STATUS = "/api/v1/status"


def test_without_the_setting_nobody_listens_on_the_network(agent: LocalAgent) -> None:
    assert agent.count_log("http listening") == 0


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:1",
        "127.0.0.1",
        "[::1]:8765",
        "192.168.1.9",
        "gateway.local:80",
        "Gateway.Local",
    ],
)
def test_a_host_of_ours_is_served(network: Network, host: str) -> None:
    assert network.ask("GET", STATUS, {**BEARER, "Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "gateway.local.",
        "a@localhost",
        "[evil]",
        "1.2.3",
    ],
)
@pytest.mark.parametrize("path", [STATUS, "/session", "/nothing"])
def test_a_foreign_host_is_a_421_that_names_the_setting(network: Network, host: str, path: str) -> None:
    """DNS rebinding: for the browser, a foreign page and this device are then one origin."""
    answer = network.ask("GET", path, {**BEARER, "Host": host, "Origin": f"http://{host}"})
    assert (answer.status, "http.hosts" in answer.json["detail"]) == (421, True)


def test_a_target_with_a_foreign_host_or_a_request_without_one_is_no_way_around(network: Network) -> None:
    assert network.ask("GET", f"http://evil.example{STATUS}", BEARER).status == 421
    with RawClient(network.address) as client:
        assert client.ask(b"GET / HTTP/1.0\r\n\r\n").status == 421


FOREIGN = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "https://{host}"},
    {"Origin": "http://{host}.evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "anything"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_change_for_a_page_of_another_origin_is_a_403(network: Network, headers: dict[str, str]) -> None:
    """Also with the token, and also where nobody has to sign in."""
    sent = {name: text.format(host=network.host) for name, text in headers.items()}
    for credentials in (BEARER, network.cookie()):
        assert network.ask("DELETE", "/session", {**credentials, **sent}).status == 403
    assert network.sign_in(**sent).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://{host}"},
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        # A proxy on the device takes off TLS and keeps Host: only the browser knows the scheme.
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://{host}"},
    ],
)
def test_a_change_of_our_own_page_is_carried_out(network: Network, headers: dict[str, str]) -> None:
    sent = {name: text.format(host=network.host) for name, text in headers.items()}
    assert network.ask("DELETE", "/session", {**network.cookie(), **sent}).status == 204


def test_a_change_with_a_cookie_needs_the_browser_s_word(network: Network) -> None:
    """A browser that says neither is too old to be protected."""
    assert network.ask("DELETE", "/session", network.cookie()).status == 403
    assert network.ask("DELETE", "/session", BEARER).status == 204


def test_another_port_of_this_host_cannot_use_our_cookie(network: Network) -> None:
    """Cookies know no ports: a page of another service on the device sends ours with its requests."""
    cookie = network.cookie()
    assert network.ask("GET", STATUS, {**cookie, "Sec-Fetch-Site": "same-site"}).status == 403
    assert network.ask("GET", STATUS, {**cookie, "Sec-Fetch-Site": "same-origin"}).status == 200


def test_a_change_leaves_a_line_that_says_who_what_and_how_it_went(network: Network) -> None:
    network.sign_in()
    network.agent.wait_for_log(
        "http change carried out", who="anybody", what="POST /session", status=204, address="127.0.0.1"
    )
    network.ask("DELETE", f"/session?token={TOKEN}", BEARER)
    network.agent.wait_for_log("http change carried out", who="token", what="DELETE /session", status=204)
    network.ask("DELETE", "/session", {**BEARER, "Origin": "http://evil.example"})
    network.agent.wait_for_log("http change refused", who="nobody", what="DELETE /session", status=403)
    assert TOKEN not in json.dumps(network.agent.log_lines())


def test_the_metrics_are_those_of_the_text_file(network: Network) -> None:
    answer = network.ask("GET", "/metrics", BEARER)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert b"# TYPE edge_backup_rpo_violated gauge\nedge_backup_rpo_violated 0\n" in answer.body


def local(path: Path | str) -> Received:
    with RawClient(str(path)) as client:
        return client.ask(f"GET {STATUS} HTTP/1.1\r\nHost: anything\r\n\r\n".encode())


def test_the_unix_socket_is_for_the_agent_s_user_alone_and_asks_nothing(agent: LocalAgent) -> None:
    path = agent.storage / "http.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert local(path).status == 200


def test_the_socket_may_be_elsewhere_and_for_a_group(started: Started, tmp_path: Path) -> None:
    path = tmp_path / "run.sock"
    agent = started(http_socket=str(path), http_socketGroup="daemon")
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, 1)
    assert local(path).status == 200
    agent.stop()
    assert not path.exists()


def test_a_change_over_the_unix_socket_names_its_user(agent: LocalAgent) -> None:
    with RawClient(str(agent.storage / "http.sock")) as client:
        assert client.ask(b"DELETE /session HTTP/1.1\r\nHost: a\r\n\r\n").status == 204
    agent.wait_for_log("http change carried out", who="user 0", what="DELETE /session")


def test_a_port_that_is_taken_leaves_the_agent_running(started: Started, token_file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        agent = started(http_listen=f"127.0.0.1:{other.getsockname()[1]}", http_tokenFile=str(token_file))
        agent.wait_for_log("http not available to the network")
        assert local(agent.storage / "http.sock").status == 200


def test_a_port_that_becomes_free_is_listened_on_without_a_restart(
    started: Started, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At boot another program may take the port first; the agent must not need a restart to get it back."""
    monkeypatch.setattr("agent.faces.http.server.AGAIN_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as other:
        agent = started(http_listen=f"127.0.0.1:{other.getsockname()[1]}", http_tokenFile=str(token_file))
        agent.wait_for_log("http not available to the network")
    assert Network(agent).ask("GET", STATUS, BEARER).status == 200
    assert agent.count_log("http not available to the network") == 1, "the log tells what has changed"


def test_a_token_that_comes_later_opens_the_port(
    started: Started, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets are often put in place by another service, after the agent's start."""
    monkeypatch.setattr("agent.faces.http.server.AGAIN_S", 0.01)
    token_file.unlink()
    agent = started(http_listen="127.0.0.1:0", http_tokenFile=str(token_file))
    agent.wait_for_log("http not available to the network")
    with open(os.open(token_file, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write(TOKEN)
    assert Network(agent).ask("GET", STATUS, BEARER).status == 200


def test_a_token_that_others_can_read_lets_nobody_in(started: Started, token_file: Path) -> None:
    token_file.chmod(0o644)
    agent = started(http_listen="127.0.0.1:0", http_tokenFile=str(token_file))
    assert "chmod 600" in agent.wait_for_log("http not available to the network")["reason"]
    assert agent.count_log("http listening") == 0


class Tls:
    """Certificates for a device and for its technician."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.ca, self.server, self.client = (
            directory / name for name in ("ca.pem", "server.pem", "client.pem")
        )
        authority.cert_pem.write_to_path(self.ca)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(self.server)
        client = authority.issue_cert("technician@example.org", common_name="technician")
        client.private_key_and_cert_chain_pem.write_to_path(self.client)

    def ask(
        self, address: str, method: str, path: str, body: str = "", client: bool = False, **headers: str
    ) -> tuple[int, dict[str, str]]:
        """Send one request over TLS; the status of the answer, and its headers."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if client:
            context.load_cert_chain(self.client)
        connection = http.client.HTTPSConnection(address, context=context, timeout=30)
        with closing(connection):
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, path, body, named)
            response = connection.getresponse()
            response.read()
            return response.status, {name.lower(): text for name, text in response.getheaders()}

    def sign_in(self, address: str, origin: str) -> tuple[int, dict[str, str]]:
        body = json.dumps({"token": TOKEN})
        headers = {"Content_Type": "application/json", "Origin": origin}
        return self.ask(address, "POST", "/session", body, client=False, **headers)


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    return Tls(tmp_path)


def test_over_tls_the_cookie_is_for_this_host_and_tls_alone(
    started: Started, token_file: Path, tls: Tls
) -> None:
    pem = str(tls.server)
    agent = started(http_listen="127.0.0.1:0", http_tokenFile=str(token_file), http_cert=pem, http_key=pem)
    address = agent.wait_for_log("http listening", tls=True)["address"]
    status, headers = tls.sign_in(address, f"https://{address}")
    pair, *attributes = headers["set-cookie"].split("; ")
    assert (status, pair.partition("=")[0]) == (204, f"__Host-edge-backup-{pair[19:27]}")
    assert attributes == ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Strict", "Secure"]
    assert tls.ask(address, "GET", STATUS, Cookie=pair)[0] == 200
    # A page that came without TLS may be anybody's.
    assert tls.sign_in(address, f"http://{address}")[0] == 403
    assert tls.ask(address, "GET", STATUS, Cookie=pair.removeprefix("__Host-"))[0] == 401


def test_a_client_certificate_stands_for_a_token_and_not_for_a_foreign_page(
    started: Started, tls: Tls
) -> None:
    """The browser sends it with the requests of every page."""
    pem = str(tls.server)
    agent = started(http_listen="127.0.0.1:0", http_cert=pem, http_key=pem, http_clientCa=str(tls.ca))
    address = agent.wait_for_log("http listening", tls=True)["address"]
    assert tls.ask(address, "GET", STATUS, client=True)[0] == 200
    assert tls.ask(address, "DELETE", "/session", client=True)[0] == 204
    agent.wait_for_log("http change carried out", who="certificate technician")
    assert tls.ask(address, "GET", STATUS, client=True, Sec_Fetch_Site="cross-site")[0] == 403
    assert tls.ask(address, "DELETE", "/session", client=True, Origin="https://evil.example")[0] == 403
    with pytest.raises((ssl.SSLError, ConnectionError)):
        tls.ask(address, "GET", STATUS)


def test_a_token_of_a_document_counts_where_it_has_its_place(network: Network) -> None:
    """002 has it in the form, or in the query of a GET; nothing else takes it there."""
    stores = "/system/disasterrecovery/stores"
    assert network.ask("GET", f"{stores}?f=json&token={TOKEN}").status == 200
    assert b'"code":401' in network.ask("GET", f"{stores}?f=json").body.replace(b" ", b"")
    assert network.ask("GET", f"{STATUS}?token={TOKEN}").status == 401
    assert TOKEN not in json.dumps(network.agent.log_lines())


def test_what_the_settings_forbid_to_a_backend_they_forbid_to_the_network(
    started: Started, token_file: Path
) -> None:
    """Reading archives is a part of `restore`, their list of `info`; the device itself may do everything."""
    settings = {"http_listen": "127.0.0.1:0", "allow_operations": "status,backup"}
    agent = started(http_tokenFile=str(token_file), **settings)
    network = Network(agent)
    for path in ("/jobs", "/archives?store=device", "/archives/device/x.zip", "/archives/device/x.zip/files"):
        answer = network.ask("GET", f"/api/v1{path}", BEARER)
        assert (answer.status, "allow.operations" in answer.json["detail"]) == (403, True), path
        with RawClient(str(agent.storage / "http.sock")) as client:
            client.send(f"GET /api/v1{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert client.answer("GET").status in (200, 404)
    assert network.ask("GET", STATUS, BEARER).status == 200
    outside = json.dumps({"operation": "backup", "options": {"backup.dir": "/etc"}}).encode()
    answer = network.ask("POST", "/api/v1/jobs", {**BEARER, "Content-Type": "application/json"}, outside)
    assert (answer.status, "outside" in answer.json["detail"]) == (422, True)
