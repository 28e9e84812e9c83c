"""The REST server as a provider: requests, and answers that no good server gives."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

import pytest

from providers.api import Limits
from providers.errors import AccessDenied, AlreadyThere, NotFound, Rejected, StorageError, Unreachable
from providers.rest import RestServer
from providers.testing.streams import BytesSource, MemorySink
from tests.support.http_server import HttpServer, Received, Say

ID = "ab" * 32
PACK = f"data/ab/{ID}"


def serving(answer: Callable[[Received], Say]) -> HttpServer:
    """Return a server that closes each connection, and says it."""

    def closing_answer(request: Received) -> Say:
        said = answer(request)
        return replace(said, headers={"Connection": "close", **said.headers})

    return HttpServer(closing_answer)


def rest(server: HttpServer) -> RestServer:
    return RestServer({"https.url": f"{server.url}/site/", "https.header.X-Key": "k"}, Limits())


def test_requests_are_those_of_the_protocol() -> None:
    """Its document names method and path of each; the packs' directories are the server's business."""

    def answer(request: Received) -> Say:
        return Say(200, body=b"[]" if request.method == "GET" else b"")

    with serving(answer) as server, closing(rest(server)) as storage:
        storage.create("config", b"1")
        storage.create(PACK, b"2")
        storage.stat(PACK)
        storage.delete(f"locks/{ID}")
        assert list(storage.list("snapshots/")) == []
        sent = [f"{request.method} {request.target}" for request in server.requests]
        kinds = {request.headers.get("accept") for request in server.requests if request.method == "GET"}
        assert {request.headers["x-key"] for request in server.requests} == {"k"}
    assert sent == [
        "POST /site/?create=true",
        "POST /site/config",
        f"POST /site/data/{ID}",
        f"HEAD /site/data/{ID}",
        f"DELETE /site/locks/{ID}",
        "GET /site/snapshots/",
    ]
    assert kinds == {"application/vnd.x.restic.rest.v2"}


def test_a_repository_in_a_directory_has_all_its_requests_there() -> None:
    """A strict server knows `data/<id>` only, wherever the repository is."""
    body = f'[{{"name": "{ID}", "size": 2}}]'.encode()

    def answer(request: Received) -> Say:
        return Say(200, body=body if request.method == "GET" else b"")

    top = "fleet/edge:device/"
    with serving(answer) as server, closing(rest(server)) as storage:
        storage.create(f"{top}config", b"1")
        storage.create(f"{top}{PACK}", b"2")
        assert [each.name for each in storage.list(f"{top}data/")] == [f"{top}{PACK}"]
        sent = [f"{request.method} {request.target}" for request in server.requests]
    assert sent == [
        "POST /site/fleet/edge%3Adevice/?create=true",
        "POST /site/fleet/edge%3Adevice/config",
        f"POST /site/fleet/edge%3Adevice/data/{ID}",
        "GET /site/fleet/edge%3Adevice/data/",
    ]


def test_a_403_for_what_is_not_there_is_a_lack_of_rights() -> None:
    with (
        serving(lambda request: Say(404 if request.method == "HEAD" else 403)) as server,
        closing(rest(server)) as storage,
        pytest.raises(AccessDenied),
    ):
        storage.create(PACK, b"2")


@pytest.mark.parametrize(
    ("name", "length", "kind"), [(PACK, 5, AlreadyThere), (PACK, 4, Unreachable), ("config", 4, AlreadyThere)]
)
def test_an_object_that_is_there_counts_only_in_its_length(
    name: str, length: int, kind: type[StorageError]
) -> None:
    """A server shows the beginning of an upload that was cut off until it notices: another try may do it."""

    def answer(request: Received) -> Say:
        if request.method == "HEAD":
            return Say(200, {"Content-Length": str(length)})
        return Say(200 if "create" in request.target else 403)

    with serving(answer) as server, closing(rest(server)) as storage:
        with pytest.raises(StorageError) as raised:
            storage.create(name, b"12345")
        assert type(raised.value) is kind


def test_a_server_that_gives_no_parts_is_read_from_the_beginning_only() -> None:
    with serving(lambda _: Say(200, body=b"0123456789")) as server, closing(rest(server)) as storage:
        piece = storage.read_range("config", 0, 4)
        assert (piece.data, piece.size_bytes) == (b"0123", 10)
        with pytest.raises(Rejected):
            storage.read_range(PACK, 5, 4)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>a captive portal",
        b"",
        b"{}x",
        b"\xff\x00",
        b"[1]",
        b'[{"name": 1}]',
        b'[{"size": 1}]',
        b'[{"name": "a", "size": null}]',
        b"[" * 100_000,
        b"[" + b"1," * 3_000_000 + b"1]",
    ],
    ids=lambda body: repr(body[:16]),
)
def test_a_list_that_is_none_is_an_error_of_the_tree(body: bytes) -> None:
    with (
        serving(lambda _: Say(200, body=body)) as server,
        closing(rest(server)) as storage,
        pytest.raises(StorageError),
    ):
        list(storage.list("locks/"))


def test_names_that_are_no_hash_are_left_out_of_a_list() -> None:
    body = f'[{{"name": "../../etc", "size": 1}}, {{"name": "{ID}", "size": 2}}]'.encode()
    with serving(lambda _: Say(200, body=body)) as server, closing(rest(server)) as storage:
        assert [(each.name, each.size_bytes) for each in storage.list("data/")] == [(PACK, 2)]


def test_a_redirect_is_not_followed() -> None:
    """It would take the password elsewhere."""
    with (
        serving(lambda _: Say(307, {"Location": "http://127.0.0.1:1/"})) as server,
        closing(rest(server)) as storage,
        pytest.raises(Rejected),
    ):
        storage.create(PACK, b"2")


def test_a_list_of_an_absent_directory_is_empty_and_an_absent_object_not_found() -> None:
    with serving(lambda _: Say(404)) as server, closing(rest(server)) as storage:
        assert list(storage.list("")) == []
        with pytest.raises(NotFound):
            storage.read_range(PACK, 0, 10)


def test_a_head_without_a_length_is_no_rest_server() -> None:
    raw = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    with (
        serving(lambda _: Say(raw=raw)) as server,
        closing(rest(server)) as storage,
        pytest.raises(Unreachable),
    ):
        storage.stat(PACK)


def test_it_keeps_no_archives() -> None:
    storage = RestServer({"https.url": "http://127.0.0.1:1/"}, Limits())
    with pytest.raises(Rejected):
        storage.put("a.zip", BytesSource(b"1"), {}, {})
    with pytest.raises(Rejected):
        storage.get("a.zip", MemorySink(), {})
