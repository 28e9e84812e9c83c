"""The temporary files beside the state of a repository."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from agent.formats.repository.blob_index import BlobIndex
from agent.formats.repository.listing import Listing
from agent.formats.repository.scratch import Scratch


def test_no_temporary_file_has_a_name_while_it_is_used(tmp_path: Path) -> None:
    """A crash leaves nothing then."""
    with closing(Scratch(tmp_path)) as scratch, closing(BlobIndex(tmp_path)), closing(Listing(tmp_path)):
        scratch.add(1, [(b"a", b"1"), (b"b", b"2")])
        assert list(tmp_path.iterdir()) == []
        assert list(scratch.nodes(1)) == [(b"a", b"1"), (b"b", b"2")]


NAMES = st.binary(min_size=1, max_size=4).filter(lambda name: b"\0" not in name)


@given(st.lists(st.tuples(st.integers(1, 3), st.lists(NAMES, max_size=40)), max_size=6))
def test_nodes_come_back_by_name_however_they_were_put_in(runs: list[tuple[int, list[bytes]]]) -> None:
    """The nodes of a large directory come in the order of its listing, a thousand at a time."""
    kept: dict[int, dict[bytes, bytes]] = {}
    with TemporaryDirectory() as directory, closing(Scratch(Path(directory))) as scratch:
        for number, names in runs:
            new = set(names) - kept.get(number, {}).keys()
            nodes = {name: b'"%b"' % name.hex().encode() for name in sorted(new)}
            scratch.add(number, nodes.items())
            kept.setdefault(number, {}).update(nodes)
        for number in (2, 1, 3):
            assert list(scratch.nodes(number)) == sorted(kept.get(number, {}).items())
            scratch.remove(number)
            assert list(scratch.nodes(number)) == []
