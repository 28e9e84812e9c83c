"""A name is resolved once, and what is connected to is what was checked."""

import socket

import pytest

from providers.allow import Allow, connect_checked, host_pattern
from providers.errors import NotAllowed


def answers(monkeypatch: pytest.MonkeyPatch, *turns: list[str]) -> None:
    """A name server that says something else each time it is asked."""
    left = list(turns)

    def getaddrinfo(_host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)) for address in left.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_is_resolved_once_and_that_very_address_is_connected_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: the second answer would be another one, so nobody may ask for it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        answers(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
        port = server.getsockname()[1]
        with connect_checked(
            "backup.example", port, 5, Allow(hosts=(host_pattern("127.0.0.1"),)).check_address
        ) as connection:
            assert connection.getpeername() == ("127.0.0.1", port)


def test_addresses_that_are_not_allowed_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        answers(monkeypatch, ["169.254.169.254", "127.0.0.1"])
        port = server.getsockname()[1]
        with connect_checked("backup.example", port, 5, Allow().check_address) as connection:
            assert connection.getpeername()[0] == "127.0.0.1"


def test_a_name_with_no_allowed_address_is_refused_without_a_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        answers(monkeypatch, ["127.0.0.1"])
        with pytest.raises(NotAllowed, match=r"backup\.example"):
            connect_checked("backup.example", server.getsockname()[1], 5, Allow(loopback=False).check_address)
        with pytest.raises(BlockingIOError):
            server.accept()
