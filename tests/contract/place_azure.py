"""Azure Blob Storage, over Azurite."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient, ContainerSasPermissions, generate_container_sas

from providers.api import Limits, StorageFactory
from providers.azure import AzureBlob
from tests.support import stores


class AzurePlace:
    """A new container, seen with the account's key by the Azure SDK."""

    factory: StorageFactory = AzureBlob
    networked = True

    def __init__(self, server: stores.Server, container: str) -> None:
        self.server, self.container = server, container
        self.endpoint = f"{server.url}/{server.user}"
        self.limits = Limits()
        self.sas = self.make_sas()
        self.secrets: Sequence[str] = (self.sas.partition("sig=")[2], server.secret)
        self.client = ContainerClient(
            self.endpoint,
            container,
            credential={"account_name": server.user, "account_key": server.secret},
            retry_total=0,
        )
        self.client.create_container()

    def make_sas(self, permission: str = "rcwdl", valid: timedelta = timedelta(hours=1)) -> str:
        now = datetime.now(UTC)
        return generate_container_sas(
            self.server.user,
            self.container,
            self.server.secret,
            permission=ContainerSasPermissions.from_string(permission),
            start=now - timedelta(days=2),
            expiry=now + valid,
        )

    def options(self, name: str) -> dict[str, str]:
        return {
            "azure.storage.endpoint": f"{self.endpoint}/",
            "azure.shared.access.signature": f"?{self.sas}",
            "azure.blob.container": self.container,
            "azure.blob.name": name,
        }

    def bad_options(self) -> Sequence[tuple[Mapping[str, str], set[str]]]:
        right = self.options("x")
        endpoint, sas, container = list(right)[:3]
        return [
            ({}, {endpoint, sas, container}),
            (right | {sas: ""}, {sas}),
            (right | {sas: "sv=2024-11-04&very-secret"}, {sas}),
            (right | {"azure.blob.conatiner": "x"}, {"azure.blob.conatiner"}),
            (right | {endpoint: "devices.example.com", container: "Big_One"}, {endpoint, container}),
            (right | {endpoint: f"{self.endpoint}?{self.sas}"}, {endpoint}),
        ]

    def denied_options(self, name: str) -> dict[str, str] | None:
        head, _, _ = self.sas.partition("sig=")
        return self.options(name) | {
            "azure.shared.access.signature": f"{head}sig=d3JvbmcgYnV0IGxvbmcgZW5vdWdo"
        }

    def write(self, name: str, data: bytes) -> None:
        self.client.upload_blob(name, data, overwrite=True)

    def read(self, name: str) -> bytes | None:
        try:
            return self.client.download_blob(name).readall()
        except ResourceNotFoundError:
            return None

    def remove(self, name: str) -> None:
        self.client.delete_blob(name)

    def names(self) -> list[str]:
        return sorted(self.client.list_blob_names())

    def leftovers(self) -> list[str]:
        """Nothing: blocks that are never committed cannot be deleted, the service drops them by itself."""
        return []

    def abort_all(self) -> None:
        """Nothing, for the same reason."""


@contextmanager
def serve(work: Path) -> Iterator[Callable[[], AzurePlace]]:
    numbers = itertools.count()
    with stores.azurite(work) as server:
        yield lambda: AzurePlace(server, f"container-{next(numbers)}")


PLACES = {"azure-azurite": serve}
