"""The targets, imported so that atheris sees which of their branches an input takes."""

import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import NoReturn

import atheris

MOST_INPUT_BYTES, MOST_MEMORY_MIB, MOST_SECONDS_FOR_ONE = 1 << 16, 512, 20

with redirect_stderr(StringIO()), atheris.instrument_imports(include=["agent", "providers"]):
    from tests.fuzz.targets import TARGETS


def fuzz(name: str, seconds: int, directory: Path) -> NoReturn:
    """Fuzz one target until the time is over or something breaks; both end the process."""
    corpus = directory / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    limits = (
        f"-max_total_time={seconds}",
        f"-max_len={MOST_INPUT_BYTES}",
        f"-rss_limit_mb={MOST_MEMORY_MIB}",
        f"-timeout={MOST_SECONDS_FOR_ONE}",
        f"-artifact_prefix={directory}/{name}-",
        "-verbosity=0",
        "-print_final_stats=1",
    )
    atheris.Setup([sys.argv[0], *limits, str(corpus)], TARGETS[name].run)
    atheris.Fuzz()
    sys.exit("atheris ended without ending the process")
