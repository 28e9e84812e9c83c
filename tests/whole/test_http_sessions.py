"""Tokens and sessions: who gets in over the network, and for how long."""

import json
from pathlib import Path

import pytest

from agent.faces.http.access.sessions import MAX_SESSIONS, SESSION_S
from agent.faces.http.access.tokens import FREE_ATTEMPTS
from tests.support.http_network import BEARER, TOKEN, Network
from tests.support.http_raw import RawClient

STATUS = "/api/v1/status"


def test_nothing_is_told_without_a_token(network: Network) -> None:
    for path in (STATUS, "/metrics"):
        answer = network.ask("GET", path)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="edge-backup"')


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
def test_the_token_lets_a_program_in(network: Network, authorization: str) -> None:
    assert network.ask("GET", STATUS, {"Authorization": authorization}).status == 200


@pytest.mark.parametrize("content", [f"\ufeff{TOKEN}\r\n", f" {TOKEN}\t\n\n"])
def test_the_token_may_come_from_any_editor(network: Network, token_file: Path, content: str) -> None:
    """Editors of Windows begin a file with a mark and end its lines in their own way."""
    token_file.write_text(content, "utf-8", newline="")
    assert network.ask("GET", STATUS, BEARER).status == 200


@pytest.mark.parametrize(
    "authorization", ["Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", TOKEN]
)
def test_a_wrong_token_or_scheme_does_not(network: Network, authorization: str) -> None:
    assert network.ask("GET", STATUS, {"Authorization": authorization}).status == 401


def test_wrong_tokens_make_an_address_wait_whatever_comes_next(network: Network) -> None:
    guesses = [{"Authorization": f"Bearer wrong-{number}"} for number in range(FREE_ATTEMPTS + 1)]
    for guess in guesses[:FREE_ATTEMPTS]:
        assert network.ask("GET", STATUS, guess).status == 401
    for headers in (guesses[-1], BEARER):
        answer = network.ask("GET", STATUS, headers)
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1
    assert network.sign_in().status == 429
    assert network.agent.count_log("http token refused") == FREE_ATTEMPTS


def test_a_program_with_the_token_of_before_locks_nobody_out(network: Network, token_file: Path) -> None:
    """Behind a web server all have one address, and a program asks again every few seconds."""
    token_file.write_text("another-token-of-this-device")
    for _ in range(FREE_ATTEMPTS + 2):
        assert network.ask("GET", "/metrics", BEARER).status == 401
    assert network.sign_in("another-token-of-this-device").status == 204


def test_who_is_signed_in_need_not_wait_for_the_neighbour(network: Network) -> None:
    cookie = network.cookie()
    for number in range(FREE_ATTEMPTS):
        network.sign_in(f"wrong-{number}")
    assert network.ask("GET", STATUS, cookie).status == 200


def test_the_page_exchanges_the_token_for_a_cookie_that_scripts_cannot_read(network: Network) -> None:
    answer = network.sign_in()
    pair, *attributes = answer.headers["set-cookie"].split("; ")
    assert attributes == ["Path=/", f"Max-Age={SESSION_S:.0f}", "HttpOnly", "SameSite=Strict"]
    assert TOKEN not in pair
    assert network.ask("GET", STATUS, {"Cookie": f"other=1; {pair}; more=2"}).status == 200


def test_signing_out_ends_the_session(network: Network) -> None:
    cookie = network.cookie()
    answer = network.ask("DELETE", "/session", {**cookie, "Sec-Fetch-Site": "same-origin"})
    assert (answer.status, "Max-Age=0" in answer.headers["set-cookie"]) == (204, True)
    assert network.ask("GET", STATUS, cookie).status == 401


def test_a_session_ends_after_twelve_hours(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SESSION_S == 12 * 3600
    monkeypatch.setattr("agent.faces.http.access.sessions.SESSION_S", 0.0)
    cookie = network.cookie()
    answer = network.ask("GET", STATUS, cookie)
    assert (answer.status, "expired" in answer.json["detail"]) == (401, True)


def test_of_too_many_sessions_the_oldest_ends(network: Network) -> None:
    cookies = [network.cookie() for _ in range(MAX_SESSIONS + 1)]
    assert [network.ask("GET", STATUS, each).status for each in (cookies[0], cookies[1])] == [401, 200]


def test_a_new_token_counts_at_once_and_ends_old_sessions(network: Network, token_file: Path) -> None:
    cookie = network.cookie()
    token_file.write_text("another-token-of-this-device")
    assert network.ask("GET", STATUS, BEARER).status == 401
    assert network.ask("GET", STATUS, cookie).status == 401
    assert network.ask("GET", STATUS, {"Authorization": "Bearer another-token-of-this-device"}).status == 200
    token_file.unlink()
    assert network.ask("GET", STATUS, {"Authorization": "Bearer another-token-of-this-device"}).status == 401


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("", b"{}", 415),
        ("text/plain", json.dumps({"token": TOKEN}).encode(), 415),
        ("application/x-www-form-urlencoded", b"token=" + TOKEN.encode(), 415),
        ("application/json", b"{", 400),
        ("application/json", b"[" * 60_000, 400),
        ("application/json", b'{"token": 1}', 400),
        ("application/json", json.dumps({"token": TOKEN, "more": 1}).encode(), 400),
        ("application/json; charset=utf-8", json.dumps({"token": TOKEN}).encode(), 204),
    ],
)
def test_signing_in_takes_its_json_alone(
    network: Network, content_type: str, body: bytes, status: int
) -> None:
    """A form of another site's page cannot send that type without asking first."""
    assert network.ask("POST", "/session", {"Content-Type": content_type}, body).status == status


def test_a_token_is_copied_with_the_blanks_around_it(network: Network) -> None:
    assert network.sign_in(f" {TOKEN}\n").status == 204


def test_the_password_of_a_web_server_in_front_does_not_hide_the_session(network: Network) -> None:
    """A browser that has typed one there sends it with each request, also to the agent."""
    password = {"Authorization": "Basic dTpw"}
    assert network.ask("GET", STATUS, {**network.cookie(), **password}).status == 200
    refused = network.ask("GET", STATUS, password)
    assert (refused.status, "Bearer" in refused.json["detail"]) == (401, True)


@pytest.mark.parametrize("credentials", ["token", "session that ends", "session of a token that is replaced"])
def test_events_are_told_as_long_as_the_client_would_be_let_in(
    network: Network, token_file: Path, credentials: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token is replaced because somebody else has it: they must not go on listening."""
    monkeypatch.setattr("agent.faces.http.api.streams.HEARTBEAT_S", 0.02)
    headers = BEARER if credentials == "token" else network.cookie()
    with RawClient(network.address) as client:
        sent = {"Host": network.host, **headers}
        lines = ["GET /api/v1/events HTTP/1.1", *(f"{name}: {text}" for name, text in sent.items())]
        client.send("\r\n".join([*lines, "", ""]).encode())
        received = b""
        while b": nothing new" not in received:
            received += client.sock.recv(1000)
        if credentials == "session that ends":
            network.ask("DELETE", "/session", {**headers, "Sec-Fetch-Site": "same-origin"})
        else:
            token_file.write_text("another-token-of-this-device")
        while not received.endswith(b"\r\n0\r\n\r\n"):
            piece = client.sock.recv(1000)
            assert piece, "the stream was broken off"
            received += piece
    assert network.agent.count_log("http token refused") == 0
