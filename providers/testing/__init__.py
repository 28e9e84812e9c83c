"""The contract of `providers.api` as tests, for authors of providers; the only modules that import pytest.

    EDGE_BACKUP_UNDER_TEST=my_tests.shelf:Shelf pytest --pyargs providers.testing

`Shelf` is a `ProviderUnderTest`: called with an empty directory it makes a fresh, empty store of the
provider.
"""
