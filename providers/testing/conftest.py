"""The provider under test, which the environment names."""

import os
from pathlib import Path
from pkgutil import resolve_name
from typing import cast

import pytest

from providers.testing.under_test import ProviderUnderTest

UNDER_TEST = "EDGE_BACKUP_UNDER_TEST"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(what): a rule without a meaning for a provider that lacks it")


def pytest_collection_modifyitems() -> None:
    if not os.environ.get(UNDER_TEST):
        raise pytest.UsageError(f"say which provider: {UNDER_TEST}=package.module:Name")


@pytest.fixture
def under_test(tmp_path: Path) -> ProviderUnderTest:
    """Make a fresh one in an empty directory."""
    return cast(ProviderUnderTest, resolve_name(os.environ[UNDER_TEST])(tmp_path))
