"""Strangers cannot fill the log, and nothing is left out in silence."""

import pytest
import structlog
from structlog.testing import capture_logs

from agent.log.sparing import BURST, INTERVAL_S, SparingLog


def test_a_flood_is_a_few_lines_and_its_size_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("agent.log.sparing.time.monotonic", lambda: now[0])
    sparing = SparingLog(structlog.get_logger())
    with capture_logs() as lines:
        for _ in range(1000):
            sparing.warning("garbage")
        sparing.warning("something else")
        assert len(lines) == BURST + 1
        now[0] += INTERVAL_S
        sparing.warning("garbage", topic="t")
    assert lines[-1] == {"event": "garbage", "log_level": "warning", "topic": "t", "suppressed": 1000 - BURST}
