"""The suite's fixtures: `under_test` is each provider, on each server, in turn."""

from collections.abc import Callable, Iterator
from functools import cache

import botocore.session  # type: ignore[import-untyped]
import pytest

import providers
from providers.api import Capability
from providers.testing.under_test import ProviderUnderTest
from tests.contract.places import all_places

PLACES = all_places()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Rules that have no meaning for a provider are not collected for it, so that nothing is skipped.

    A stranger who runs the suite over a provider of his own does not load this file: there they skip.
    """
    without = [item for item in items if not _applies(item)]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in set(without)]


def _applies(item: pytest.Item) -> bool:
    wanted = {mark.args[0] for mark in item.iter_markers("needs")}
    if not isinstance(item, pytest.Function) or "under_test" not in item.fixturenames:
        return True
    server = str(item.callspec.params["fresh_place"])
    kind = server.split("-", maxsplit=1)[0]
    if kind == "rest":  # it keeps the objects of a repository, and no archives
        return "create" in wanted
    if not wanted:
        return True
    factory = providers.factory(kind)
    facts = {
        # rclone ignores If-None-Match.
        "conditions": server != "aws-rclone",
        "streams": not factory.needs_size,
        "network": kind != "local",
        "credentials": kind != "local",
        **{each.value: each in factory.capabilities for each in Capability},
        # rclone answers a multipart upload with one ETag and keeps another: nothing is ever skipped there.
        "lasting ETags": server != "aws-rclone",
    }
    return all(facts[want] for want in wanted)


@pytest.fixture(scope="session", params=sorted(PLACES))
def fresh_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], ProviderUnderTest]]:
    name: str = request.param
    with PLACES[name](tmp_path_factory.mktemp(name)) as fresh:
        yield fresh


@pytest.fixture(scope="session", autouse=True)
def _shared_service_models() -> Iterator[None]:
    """Amazon's SDK would read a megabyte of JSON for each client; hundreds are made here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("botocore.session.create_loader", cache(botocore.session.create_loader))
        yield


@pytest.fixture
def under_test(fresh_place: Callable[[], ProviderUnderTest]) -> ProviderUnderTest:
    return fresh_place()


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections go to the test's own servers, whatever the environment says."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
