"""For all tests: a broker, and a backend at it.

With rich, structlog's tracebacks would show every local variable, which takes minutes
for those that tests of hostile input have; it looks for rich when it is imported."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

sys.modules["rich"] = cast(ModuleType, None)
import structlog  # noqa: E402, F401

del sys.modules["rich"]

import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

pytest.register_assert_rewrite("providers.testing")

from tests.support.backend import Backend  # noqa: E402
from tests.support.mosquitto import Mosquitto, mosquitto  # noqa: E402

# A busy machine makes no test fail: an example may take the time that it takes.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with mosquitto(tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture
def backend(broker: Mosquitto) -> Iterator[Backend]:
    with Backend(broker.port) as connected:
        yield connected
