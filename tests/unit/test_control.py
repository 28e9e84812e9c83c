"""The device's own door, with real sockets and a mailbox that somebody empties."""

import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cli.local import Agent, AgentRefused, NotAnswered, connected
from agent.faces.control import MAX_REQUEST_BYTES, SOCKET_NAME, Control, Reply
from agent.faces.unix_address import address
from agent.mailbox import Mailbox


def receive(operation: str, value: Any, answer: Reply) -> None:
    if operation == "refused":
        answer(409, {"message": "busy"})
    else:
        answer(200, {"operation": operation, "value": value})


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Path]:
    mailbox = Mailbox()
    control = Control(tmp_path, mailbox.post, receive)
    control.open()
    main = threading.Thread(target=mailbox.run)
    main.start()
    yield tmp_path
    control.close()
    mailbox.post(mailbox.stop)
    main.join(10)
    assert not main.is_alive()


def test_a_question_gets_its_answer(storage: Path) -> None:
    with connected(storage) as agent:
        assert agent.ask("status", {"a": 1}) == {"operation": "status", "value": {"a": 1}}
        assert agent.ask("again") == {"operation": "again", "value": None}


def test_a_refusal_is_told_in_the_agent_s_words(storage: Path) -> None:
    with connected(storage) as agent, pytest.raises(AgentRefused, match="busy"):
        agent.ask("refused")


def test_nobody_else_may_open_the_socket(storage: Path) -> None:
    assert stat.S_IMODE((storage / SOCKET_NAME).stat().st_mode) == 0o600


def test_without_an_agent_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotAnswered, match="no agent runs"), connected(tmp_path):
        pass


def test_the_socket_of_an_agent_that_was_killed_is_replaced(storage: Path, tmp_path: Path) -> None:
    """It stays in the directory, and nobody listens to it any more."""
    second = tmp_path / "second"
    second.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(second / SOCKET_NAME))
    mailbox = Mailbox()
    control = Control(second, mailbox.post, receive)
    control.open()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(second / SOCKET_NAME))
    control.close()
    assert not (second / SOCKET_NAME).exists()


def test_a_storage_directory_may_have_a_path_longer_than_an_address(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    mailbox = Mailbox()
    control = Control(deep, mailbox.post, receive)
    control.open()
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(address(deep / SOCKET_NAME))
    control.close()


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(line=st.binary(min_size=1, max_size=300).filter(lambda line: b"\n" not in line))
def test_whatever_is_said_gets_an_answer_and_the_next_caller_too(storage: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(storage / SOCKET_NAME))
        with caller.makefile("rwb") as stream:
            stream.write(line + b"\n")
            stream.flush()
            assert json.loads(stream.readline())["status"] in (200, 400)
            assert Agent(stream).ask("still there")


def test_a_line_without_end_is_not_kept_in_memory(storage: Path) -> None:
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(str(storage / SOCKET_NAME))
        with caller.makefile("rwb") as stream:
            stream.write(b"x" * MAX_REQUEST_BYTES)
            stream.flush()
            assert json.loads(stream.readline())["status"] == 400
