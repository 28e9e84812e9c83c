"""One connection: what HTTP/1.1 asks of a server, and a limit for everything that a client may draw out."""

import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from agent.faces.http import connection
from agent.faces.http.connection import MAX_BODY_BYTES, MAX_HEAD_BYTES
from agent.faces.http.headers import PROTECTION
from agent.faces.http.message import Problem, Request, Response
from agent.faces.http.routes import Route
from tests.support.http_raw import RawClient, answers, listening

HOST = b"Host: localhost\r\n"
GET = b"GET /echo HTTP/1.1\r\n" + HOST + b"\r\n"
Address = tuple[str, int]


def echo(request: Request) -> Response:
    text = f"{request.method} {request.path}?{request.query} {len(request.body)}"
    return Response(200, {"Content-Type": "text/plain"}, text.encode())


def pieces(_request: Request) -> Response:
    return Response(200, {}, (bytes([65 + number]) * 20_000 for number in range(3)))


def broken(_request: Request) -> Response:
    def body() -> Iterator[bytes]:
        yield b"begin"
        raise ValueError("in the middle")

    return Response(200, {}, body())


def cookies(request: Request) -> Response:
    return Response(200, {}, request.headers["cookie"].encode())


def refused(_request: Request) -> Response:
    raise Problem(409, "busy", {"Retry-After": "10"})


def failing(_request: Request) -> Response:
    raise ZeroDivisionError


@pytest.fixture(scope="module")
def server() -> Iterator[Address]:
    routes = [Route(method, "/echo", echo) for method in ("GET", "POST", "CONNECT")]
    routes += [Route("GET", "/pieces", pieces), Route("GET", "/broken", broken)]
    routes += [Route("GET", "/refused", refused), Route("GET", "/failing", failing)]
    routes += [Route("GET", "/cookies", cookies), Route("GET", "/known", lambda _: Response(304))]
    routes += [Route("DELETE", "/things/{name}", lambda _: Response(204))]
    with listening(answers(*routes)) as address:
        yield address


@pytest.fixture
def client(server: Address) -> Iterator[RawClient]:
    with RawClient(server) as client:
        yield client


def test_requests_follow_one_another_on_one_connection(client: RawClient) -> None:
    for _ in range(3):
        received = client.ask(GET)
        assert (received.status, received.reason, received.body) == (200, "OK", b"GET /echo? 0")


def test_pipelined_requests_are_answered_in_their_order(client: RawClient) -> None:
    client.send(b"".join(b"GET /echo?%d HTTP/1.1\r\n" % number + HOST + b"\r\n" for number in range(20)))
    assert [client.answer().body for _ in range(20)] == [b"GET /echo?%d 0" % number for number in range(20)]


@pytest.mark.parametrize("between", [b"\r\n", b"\n", b"\r\n\r\n"])
def test_empty_lines_before_a_request_are_skipped(client: RawClient, between: bytes) -> None:
    """Old clients end a body with one (RFC 9112, 2.2)."""
    request = post(b"abc" + between, b"Content-Length: 3")
    assert client.ask(between, request).body == b"POST /echo? 3"
    assert client.ask(request, between, GET).body == b"POST /echo? 3"
    assert client.answer().body == b"GET /echo? 0"


def test_empty_lines_alone_are_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_S", 0.2)
    with listening(answers(Route("GET", "/echo", echo))) as address, RawClient(address) as client:
        client.send(b"\r\n")
        assert client.is_closed()


def test_cookies_in_several_headers_are_those_of_one(client: RawClient) -> None:
    """A web server may take requests over HTTP/2, where each cookie has a header (RFC 9113, 8.2.3)."""
    head = b"GET /cookies HTTP/1.1\r\nCookie: a=1\r\n" + HOST + b"Cookie: b=2; c=3\r\n\r\n"
    assert client.ask(head).body == b"a=1; b=2; c=3"


@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_another_protocol_is_not_taken_up_and_the_request_is_answered(
    client: RawClient, protocol: bytes
) -> None:
    """Java's client offers HTTP/2 with every request, also beside a body in chunks."""
    offer = b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, b"HTTP2-Settings: AAMAAABk"
    chunked = post(b"3\r\nabc\r\n0\r\n\r\n", *offer, b"Transfer-Encoding: chunked")
    assert client.ask(chunked).body == b"POST /echo? 3"
    assert client.ask(GET).status == 200


def test_a_request_may_come_byte_by_byte(client: RawClient) -> None:
    assert client.ask(*(bytes([byte]) for byte in GET)).status == 200


def test_every_answer_has_the_headers_that_protect_a_browser_and_none_that_lets_others_read(
    client: RawClient,
) -> None:
    for path in (b"/echo", b"/refused", b"/nothing", b"/failing"):
        headers = client.ask(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n").headers
        assert {name: headers[name.lower()] for name in PROTECTION} == PROTECTION
        assert "date" in headers
        assert not [name for name in headers if name.startswith("access-control")]


def test_a_problem_is_a_document_with_its_own_headers(client: RawClient) -> None:
    received = client.ask(b"GET /refused HTTP/1.1\r\n" + HOST + b"\r\n")
    assert received.headers["content-type"] == "application/problem+json"
    assert received.headers["retry-after"] == "10"
    assert received.json == {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "busy"}


def test_a_bug_is_a_500_without_details_and_the_connection_goes_on(client: RawClient) -> None:
    with capture_logs() as lines:
        received = client.ask(b"GET /failing HTTP/1.1\r\n" + HOST + b"\r\n")
    assert received.status == 500
    assert b"ZeroDivisionError" not in received.body
    assert lines[0]["event"] == "internal error"
    assert client.ask(GET).status == 200


def test_head_has_the_headers_of_get_and_no_body(client: RawClient) -> None:
    client.send(b"HEAD /echo HTTP/1.1\r\n" + HOST + b"\r\n", GET)
    head = client.answer("HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (200, "13", b"")
    assert client.answer().body == b"GET /echo? 0"


def test_a_wrong_method_is_a_405_that_names_the_right_ones(client: RawClient) -> None:
    received = client.ask(b"PUT /echo HTTP/1.1\r\nContent-Length: 0\r\n" + HOST + b"\r\n")
    assert (received.status, received.headers["allow"]) == (405, "CONNECT, GET, HEAD, POST")
    assert client.ask(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n").status == 404


def test_an_answer_without_content_has_no_length(client: RawClient) -> None:
    received = client.ask(b"DELETE /things/a%2Fb HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (received.status, received.body) == (204, b"")
    assert "content-length" not in received.headers
    assert client.ask(GET).status == 200


def test_what_has_not_changed_has_no_length(client: RawClient) -> None:
    """A cache would keep an empty page: it takes the headers of a 304 for those of the content."""
    received = client.ask(b"GET /known HTTP/1.1\r\n" + HOST + b"\r\n")
    assert (received.status, "content-length" in received.headers) == (304, False)
    assert client.ask(GET).status == 200


def test_an_answer_in_pieces_is_sent_chunked_and_the_connection_goes_on(client: RawClient) -> None:
    received = client.ask(b"GET /pieces HTTP/1.1\r\n" + HOST + b"\r\n")
    assert received.headers["transfer-encoding"] == "chunked"
    assert received.body == b"A" * 20_000 + b"B" * 20_000 + b"C" * 20_000
    assert client.ask(GET).status == 200


def test_an_answer_that_breaks_off_does_not_look_complete(client: RawClient) -> None:
    with capture_logs() as lines:
        client.send(b"GET /broken HTTP/1.1\r\n" + HOST + b"\r\n")
        received = b""
        while piece := client.sock.recv(1000):
            received += piece
    assert received.endswith(b"5\r\nbegin\r\n")
    assert lines[0]["event"] == "answer broken off"


def test_an_http_1_0_client_gets_its_answer_until_the_end_of_the_connection(client: RawClient) -> None:
    assert client.ask(b"GET /pieces HTTP/1.0\r\nHost: localhost\r\n\r\n").body[:2] == b"AA"
    assert client.is_closed()


@pytest.mark.parametrize("target", [b"http://localhost/echo?a", b"HTTP://LOCALHOST/echo?a"])
def test_an_absolute_target_is_understood(client: RawClient, target: bytes) -> None:
    assert client.ask(b"GET " + target + b" HTTP/1.1\r\nHost: other\r\n\r\n").body == b"GET /echo?a 0"


def test_the_host_of_an_absolute_target_counts_and_not_the_header(server: Address) -> None:
    """RFC 9112, 3.2.2: otherwise the rule for hosts looks at the wrong one."""
    seen = []

    def answer(request: Request) -> Response:
        seen.append((request.headers["host"], request.path))
        return Response()

    with listening(answer) as address, RawClient(address) as client:
        client.ask(b"GET http://evil.example/a HTTP/1.1\r\n" + HOST + b"\r\n")
        client.ask(b"GET http://evil.example?b HTTP/1.1\r\n" + HOST + b"\r\n")
    assert seen == [("evil.example", "/a"), ("evil.example", "/")]


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /echo HTTP/1.1", b"Host: localhost", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_body_comes_with_its_length_or_in_chunks(client: RawClient) -> None:
    assert client.ask(post(b"abc", b"Content-Length: 3")).body == b"POST /echo? 3"
    chunks = b"1;name=value\r\na\r\n2\r\nbc\r\n0\r\nTrailer: x\r\n\r\n"
    assert client.ask(post(chunks, b"Transfer-Encoding: chunked")).body == b"POST /echo? 3"
    tiny = b"1\r\nx\r\n" * 5000 + b"0\r\n\r\n"
    assert client.ask(post(tiny, b"Transfer-Encoding: chunked")).body == b"POST /echo? 5000"


def test_a_body_of_the_limit_is_taken(client: RawClient) -> None:
    body = b"x" * MAX_BODY_BYTES
    assert client.ask(post(body, b"Content-Length: %d" % len(body))).status == 200


def test_a_body_that_announces_itself_as_too_long_is_refused_unread(client: RawClient) -> None:
    """The client is told before it sends: it waits for 100."""
    received = client.ask(post(b"", b"Content-Length: 65537", b"Expect: 100-continue"))
    assert (received.status, received.headers["connection"]) == (413, "close")
    assert client.is_closed()


def test_a_client_that_sends_too_much_all_the_same_can_read_its_answer(client: RawClient) -> None:
    """Closed at once with unread bytes, the connection would be reset, and the answer lost."""
    body = b"x" * (MAX_BODY_BYTES * 3)
    assert client.ask(post(body, b"Content-Length: %d" % len(body))).status == 413
    assert client.is_closed()


def test_chunks_without_an_end_are_refused_at_the_limit(client: RawClient) -> None:
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    assert client.ask(post(chunk * 5, b"Transfer-Encoding: chunked")).status == 413


def test_a_client_that_waits_for_100_gets_it_before_it_sends(client: RawClient) -> None:
    client.send(post(b"", b"Content-Length: 3", b"Expect: 100-continue"))
    interim = b""
    while not interim.endswith(b"\r\n\r\n"):
        interim += client.sock.recv(1)
    assert interim.startswith(b"HTTP/1.1 100 ")
    assert client.ask(b"abc").body == b"POST /echo? 3"


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        (b"GET /echo\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\x00: d\r\n\r\n", 400),
        (post(b"abc", b"Content-Length: 3", b"Content-Length: 4"), 400),
        (post(b"abc", b"Content-Length: 3", b"Transfer-Encoding: chunked"), 400),
        (post(b"", b"Content-Length: -1"), 400),
        (post(b"", b"Transfer-Encoding: gzip"), 501),
        (post(b"xyz\r\nabc", b"Transfer-Encoding: chunked"), 400),
        (b"GET /echo HTTP/1.1\r\nHost: a\r\nX: " + b"x" * MAX_HEAD_BYTES * 2, 431),
        (b"GET /" + b"x" * MAX_HEAD_BYTES * 2, 431),
        (b"".join([b"GET / HTTP/1.1\r\nHost: a\r\n", *[b"X: y\r\n"] * 10_000, b"\r\n"]), 431),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_request_is_refused_and_ends_the_connection(
    client: RawClient, request_bytes: bytes, status: int
) -> None:
    received = client.ask(request_bytes)
    assert (received.status, received.headers["connection"]) == (status, "close")
    assert client.is_closed()


def test_half_a_request_and_the_end_of_the_connection_leave_no_thread(server: Address) -> None:
    for half in (
        b"",
        b"GET",
        GET[:-1],
        post(b"ab", b"Content-Length: 3"),
        post(b"3\r\na", b"Transfer-Encoding: chunked"),
    ):
        with RawClient(server) as client:
            client.send(half)
    with RawClient(server) as client:
        assert client.ask(GET).status == 200


def test_a_request_that_does_not_arrive_in_time_is_told_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_S", 0.2)
    with listening(answers(Route("POST", "/echo", echo))) as address:
        for slow in (b"GET / HT", post(b"ab", b"Content-Length: 3")):
            with RawClient(address) as client:
                assert client.ask(slow).status == 408
                assert client.is_closed()


def test_a_client_that_says_nothing_is_dropped_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Browsers open connections in advance: an answer there would be taken for that of a later request."""
    monkeypatch.setattr(connection, "REQUEST_S", 0.2)
    monkeypatch.setattr(connection, "IDLE_S", 0.2)
    with listening(answers(Route("GET", "/echo", echo))) as address:
        with RawClient(address) as client:
            assert client.is_closed()
        with RawClient(address) as client:
            assert client.ask(GET).status == 200
            assert client.is_closed()


def test_a_client_that_does_not_read_is_dropped_and_the_body_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SEND_S", 0.2)
    ended = threading.Event()

    def endless(_request: Request) -> Response:
        def body() -> Iterator[bytes]:
            try:
                while True:
                    yield b"x" * 10_000
            finally:
                ended.set()

        return Response(200, {}, body())

    with listening(answers(Route("GET", "/echo", endless))) as address, RawClient(address) as client:
        client.send(GET)
        assert ended.wait(30)


SYLLABLES = (
    *(b"GET ", b"POST ", b"/echo", b" HTTP/1.1", b"\r\n", HOST, b"\x00", b"5", b"0\r\n\r\n"),
    *(b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n"),
    b"Connection: close\r\n",
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=200) | st.lists(st.sampled_from(SYLLABLES), max_size=20).map(b"".join))
def test_whatever_bytes_come_the_connection_ends_and_the_next_client_is_served(
    server: Address, noise: bytes
) -> None:
    with RawClient(server) as client:
        client.send(noise)
        client.sock.shutdown(1)  # nothing more comes
        while client.sock.recv(10_000):
            pass
    with RawClient(server) as client:
        assert client.ask(GET).status == 200
