"""The suite that is shipped, `providers.testing`, over every provider of ours on every server."""

from providers.testing.streams import MemorySink
from providers.testing.test_contract_bounds import *
from providers.testing.test_contract_create import *
from providers.testing.test_contract_delete import *
from providers.testing.test_contract_faults import *
from providers.testing.test_contract_get import *
from providers.testing.test_contract_put import *
from providers.testing.transfers import NAME, SMALL, opened
from providers.testing.under_test import ProviderUnderTest


def test_our_own_providers_say_how_long_an_archive_is_and_where(under_test: ProviderUnderTest) -> None:
    """Others need not: then a job has no percentage, and one that failed no place in the history."""
    under_test.write(NAME, SMALL)
    sink = MemorySink()
    with opened(under_test) as storage:
        stored = storage.get(NAME, sink, {})
        assert sink.expected == len(SMALL)
        assert storage.location(NAME) == stored.place
