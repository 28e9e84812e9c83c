"""The temporary files beside the state of a repository."""

from contextlib import closing
from pathlib import Path

from agent.formats.repository.blob_index import BlobIndex
from agent.formats.repository.listing import Listing
from agent.formats.repository.scratch import Scratch


def test_no_temporary_file_has_a_name_while_it_is_used(tmp_path: Path) -> None:
    """A crash leaves nothing then."""
    with closing(Scratch(tmp_path)) as scratch, closing(BlobIndex(tmp_path)), closing(Listing(tmp_path)):
        scratch.add(1, [(b"b", b"2"), (b"a", b"1")])
        assert list(tmp_path.iterdir()) == []
        assert list(scratch.nodes(1)) == [(b"a", b"1"), (b"b", b"2")]
