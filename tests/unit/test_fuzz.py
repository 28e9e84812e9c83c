"""The targets of `make fuzz` take their seeds, also where atheris does not exist."""

import pytest

from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_takes_its_seeds_and_what_is_left_of_them(name: str) -> None:
    """A seed that is refused at once leads a fuzzer nowhere; a target that raises finds only itself."""
    for seed in TARGETS[name].seeds:
        for end in range(len(seed) + 1) if len(seed) < 1000 else (len(seed) // 2, len(seed)):
            TARGETS[name].run(seed[:end])
