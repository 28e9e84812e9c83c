"""Every long computation looks at the job's token at least once for each name that it goes through.

Counted in looks and in entries, not in seconds: between two looks lies the work for one entry, however many
entries an archive or a directory has.
"""

import io
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import chain
from pathlib import Path

import pytest

from agent.base.errors import Cancelled
from agent.base.roots import Root
from agent.formats.entry_checks import take_survey
from agent.formats.zip.format import Zip
from agent.formats.zip.reader import ArchiveReader
from agent.formats.zip.writer import ArchiveOptions
from agent.restore.choice import Choice
from agent.restore.restore_set import RestoreSet
from agent.restore.root import RestoreOptions, RestoreRoot
from agent.save.inventory import Inventory, take_inventory
from agent.save.walk import WalkRoot
from agent.transfer.cancel import CancelToken
from tests.support.archives import Crafted, crafted
from tests.support.restoring import JOB, LIMITS, restore_into, surveyed
from tests.support.trees import File, make_tree

FILES, ROOTS = 30, 20
ENTRIES = FILES * ROOTS


class Looks(CancelToken):
    """A token that counts how often it is looked at, and is cancelled after some looks."""

    def __init__(self, cancelled_after: int = 1 << 60) -> None:
        super().__init__()
        self.count, self._left = 0, cancelled_after

    def check(self) -> None:
        self.count += 1
        if self.count == self._left:
            self.cancel("enough")
        super().check()


def name(root: int, file: int) -> bytes:
    return b"set%02d/data/f%02d" % (root, file)


IN_ORDER = [name(root, file) for root in range(ROOTS) for file in range(FILES)]
MIXED = [name(root, file) for file in range(FILES) for root in range(ROOTS)]


def archive(names: list[bytes] = IN_ORDER) -> bytes:
    return crafted(*(Crafted(each, each) for each in names))


def reader(content: bytes, looks: CancelToken) -> ArchiveReader:
    return ArchiveReader(io.BytesIO(content), looks.check)


def choice(tmp_path: Path) -> Choice:
    roots = tuple(Root(f"set{number:02}/data", tmp_path / f"root{number:02}") for number in range(ROOTS))
    return Choice(roots, roots, {f"set{number:02}": f"set{number:02}" for number in range(ROOTS)})


@pytest.mark.parametrize("names", [IN_ORDER, MIXED], ids=["in order", "mixed"])
def test_an_archive_is_listed_once_to_survey_all_roots(tmp_path: Path, names: list[bytes]) -> None:
    """Each root listed the whole archive: 20 roots and 400,000 entries kept a cancel waiting for 40 s."""
    looks = Looks()
    found = choice(tmp_path).trees(reader(archive(names), looks), LIMITS)
    assert [each.survey.files for each in found.values()] == [FILES] * ROOTS
    assert looks.count == ENTRIES


def test_an_archive_of_ours_is_listed_once_to_unpack_all_roots(tmp_path: Path) -> None:
    looks = Looks()
    trees = choice(tmp_path).trees(reader(archive(), looks), LIMITS)
    looks.count = 0
    found = [[item.name for item in each.tree.items()] for each in trees.values()]
    assert found == [[f"f{number:02}" for number in range(FILES)]] * ROOTS
    assert looks.count == ENTRIES


def test_in_any_order_each_root_gets_what_is_its_own(tmp_path: Path) -> None:
    """Also when a tree is listed again, and while another one is being listed."""
    trees = choice(tmp_path).trees(reader(archive(MIXED), CancelToken()), LIMITS)
    for _ in range(2):
        together = zip(*(each.tree.items() for each in trees.values()), strict=True)
        assert {item.name for item in chain(*together)} == {f"f{number:02}" for number in range(FILES)}
    for number, each in enumerate(trees.values()):
        content: list[bytes] = []
        for item in each.tree.items():
            each.tree.read(item, content.append)
        assert content == [name(number, file) for file in range(FILES)]


def listing(content: bytes) -> Callable[[Path, Looks], object]:
    return lambda _directory, looks: take_survey(reader(content, looks).items(), LIMITS)


def choosing(directory: Path, looks: Looks) -> None:
    choice(directory).trees(reader(archive(), looks), LIMITS)


def unpacking(directory: Path, looks: Looks) -> None:
    with closing(_Discarded(restore_into(directory, token=looks))) as work:
        work.restore.unpack([surveyed(reader(archive(), CancelToken()))])


def _after_unpacking(
    directory: Path, looks: Looks, act: Callable[[RestoreSet], object], options: RestoreOptions
) -> None:
    root = RestoreRoot(Root("", directory), JOB, options)
    before = looks.count
    with closing(_Discarded(RestoreSet([root], looks))) as work:
        work.restore.unpack([surveyed(ArchiveReader(io.BytesIO(crafted(Crafted(b"new")))))])
        looks.count = before
        act(work.restore)


class _Discarded:
    def __init__(self, restore: RestoreSet) -> None:
        self.restore = restore

    def close(self) -> None:
        self.restore.discard()


def comparing(directory: Path, looks: Looks) -> None:
    _after_unpacking(directory, looks, RestoreSet.difference, RestoreOptions(limits=LIMITS))


def planning(directory: Path, looks: Looks, **options: str) -> None:
    """A file that is only in the target and stays needs no step, but a look."""
    _after_unpacking(directory, looks, RestoreSet.commit, RestoreOptions(limits=LIMITS, **options))  # type: ignore[arg-type]


def counting(directory: Path, looks: Looks) -> None:
    inventory = Inventory((WalkRoot(Root("", directory)),))
    take_inventory(inventory, Zip(ArchiveOptions()), (), looks.check, consistent=True)


ROOT_ITSELF = crafted(*(Crafted(b"./", b"", mode=0o40755) for _ in range(ENTRIES)))
PHASES: dict[str, Callable[[Path, Looks], object]] = {
    "listing": listing(archive()),
    "listing what names the root": listing(
        crafted(*(Crafted(b"./", b"", mode=0o40755) for _ in range(ENTRIES)))
    ),
    "choosing": choosing,
    "unpacking": unpacking,
    "comparing": comparing,
    "planning": planning,
    "planning a replacement": partial(planning, mode="replace"),
    "counting": counting,
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    make_tree(tmp_path / "target", {f"old{number:03}": File() for number in range(ENTRIES)})
    return tmp_path / "target"


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_looks_at_the_token_for_each_name(directory: Path, phase: str) -> None:
    looks = Looks()
    PHASES[phase](directory, looks)
    assert looks.count >= ENTRIES


@pytest.mark.parametrize("phase", PHASES)
def test_every_phase_ends_at_the_look_that_finds_the_cancel(directory: Path, phase: str) -> None:
    looks = Looks(cancelled_after=ENTRIES // 2)
    with pytest.raises(Cancelled):
        PHASES[phase](directory, looks)
    assert looks.count <= ENTRIES // 2 + 1
