"""Archives in Azure Blob Storage, with a shared access signature (SAS).

Built on the Azure SDK, which nothing outside this package imports. The options are checked without it: it is
imported when there is something to do.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from providers.address import parse_address
from providers.api import Limits, Storage
from providers.dial import check_allowed
from providers.forwarding import Deferred
from providers.options import HTTP_URL, Option, checked

OPTIONS = {
    "azure.storage.endpoint": replace(HTTP_URL, required=True),
    "azure.shared.access.signature": Option(
        r"\??([^\s?#]+&)?sig=[^\s?#]+", "a shared access signature, as in '?sv=…&sig=…'", required=True
    ),
    "azure.blob.container": Option(
        r"\$root|[a-z0-9](-?[a-z0-9]){2,62}", "3-63 lower-case letters, digits or single '-'", required=True
    ),
    "azure.blob.name": Option(r"(?s).+", "a blob name"),
}


class AzureBlob(Deferred):
    """Storage in one container, as far as a SAS allows. Options: `OPTIONS`.

    `put` needs the permissions create and write, `get` read, `list` list; going on with an upload needs
    read too, without which everything is sent again.
    """

    kind: ClassVar[str] = "azure"
    name_option: ClassVar[str | None] = "azure.blob.name"
    prefix_option: ClassVar[str] = "azure.blob.prefix"

    def __init__(self, options: Mapping[str, str], limits: Limits, /) -> None:
        super().__init__(checked(options, "azure.", OPTIONS), limits)

    def open_behind(self) -> Storage:
        from providers.azure.storage import Container

        return Container(self._given, self._limits)

    def location(self, name: str, /) -> str:
        endpoint = self._given["azure.storage.endpoint"].rstrip("/")
        return f"{endpoint}/{self._given['azure.blob.container']}/{name}"

    def preflight(self, _writing: bool, /) -> None:
        """Raise `NotAllowed` when the device is known not to allow this destination."""
        endpoint = parse_address(self._given["azure.storage.endpoint"])
        check_allowed(endpoint, self._limits)
        self._limits.allow.check_bucket(self._given["azure.blob.container"], endpoint)
