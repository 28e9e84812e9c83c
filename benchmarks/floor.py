"""Prints how long `cat` takes to read all files of a directory, and ISA-L at level 1 on two threads to
compress their bytes when these are in memory already. A program, so that the memory is gone afterwards.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from isal import isal_zlib

BLOCK_BYTES = 1 << 20
_GROUP_BLOCKS = 16
"""So that the threads need not meet for every block, small as that cost is."""


def main(directory: str) -> None:
    paths = sorted(path for path in Path(directory).rglob("*") if path.is_file())
    print(_cat_s(paths), _isal_s(paths))


def _cat_s(paths: list[Path]) -> float:
    names = b"\0".join(str(path).encode() for path in paths)
    started_s = time.monotonic()
    subprocess.run(["xargs", "-0", "cat"], input=names, stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - started_s


def _isal_s(paths: list[Path]) -> float:
    blocks: list[bytes] = []
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                blocks.append(block)
    groups = [blocks[at : at + _GROUP_BLOCKS] for at in range(0, len(blocks), _GROUP_BLOCKS)]
    with ThreadPoolExecutor(2) as pool:
        started_s = time.monotonic()
        for _ in pool.map(_compress, groups):
            pass
        return time.monotonic() - started_s


def _compress(blocks: list[bytes]) -> None:
    for block in blocks:
        compressor = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
        compressor.compress(block)
        compressor.flush()


if __name__ == "__main__":
    main(sys.argv[1])
