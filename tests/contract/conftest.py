"""The suite's fixtures: `place` is a fresh place of each provider and server in turn."""

from collections.abc import Callable, Iterator

import pytest

from tests.contract.places import Place, all_places

PLACES = all_places()


@pytest.fixture(scope="session", params=sorted(PLACES))
def fresh_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Place]]:
    name: str = request.param
    with PLACES[name](tmp_path_factory.mktemp(name)) as fresh:
        yield fresh


@pytest.fixture
def place(fresh_place: Callable[[], Place]) -> Place:
    return fresh_place()
