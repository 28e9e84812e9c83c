"""A skip that can be made to fail: CI sets REQUIRE_BACKENDS=1, where everything must be there.

Except for what no installation can bring: what the kernel, or the container around the tests, refuses.
"""

import os

import pytest


def require(condition: bool, what: str) -> None:
    """Skip the running test unless `condition`; with REQUIRE_BACKENDS=1 fail instead. `what` is missing."""
    if condition:
        return
    if os.environ.get("REQUIRE_BACKENDS") == "1":
        pytest.fail(f"REQUIRE_BACKENDS=1, but missing: {what}")
    pytest.skip(f"missing: {what}")


def possible(condition: bool, what: str) -> None:
    """Skip the running test unless `condition`: this machine cannot do `what`, whatever is installed."""
    if not condition:
        pytest.skip(f"this machine cannot: {what}")
