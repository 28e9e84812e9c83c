"""The table from exceptions of the Azure SDK and answers of the service to our errors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qs

from azure.core import exceptions as sdk
from azure.core.rest import HttpResponse

from providers.errors import (
    AccessDenied,
    Classify,
    Corrupted,
    Expired,
    NoBucket,
    NotFound,
    Rejected,
    StorageError,
    TooLarge,
    UnknownOutcome,
    Unreachable,
    from_http_status,
    means,
)
from providers.http_exchange import network_errors

_NOT_ALLOWED = (AccessDenied, "the SAS does not allow this")
_CHANGED = (Corrupted, "the blob changed in the meantime")

# "Common REST API error codes" and "Blob service error codes"; others go by their HTTP status.
_CODES: dict[str, tuple[type[StorageError], str]] = {
    "AccountIsDisabled": (AccessDenied, "the account is disabled"),
    "AuthenticationFailed": (AccessDenied, "the SAS is not valid"),
    "AuthorizationFailure": _NOT_ALLOWED,
    "AuthorizationPermissionMismatch": _NOT_ALLOWED,
    "AuthorizationProtocolMismatch": (AccessDenied, "the SAS is for https only"),
    "AuthorizationResourceTypeMismatch": _NOT_ALLOWED,
    "AuthorizationServiceMismatch": _NOT_ALLOWED,
    "AuthorizationSourceIPMismatch": (AccessDenied, "the SAS is for other addresses than this device's"),
    "InsufficientAccountPermissions": _NOT_ALLOWED,
    "BlobNotFound": (NotFound, "there is no such blob"),
    "ContainerBeingDeleted": (NoBucket, "the container is being deleted"),
    "ContainerDisabled": (AccessDenied, "the container is disabled"),
    "ContainerNotFound": (NoBucket, "the container does not exist"),
    "ResourceNotFound": (NotFound, "there is no such blob or container"),
    "ConditionNotMet": _CHANGED,
    "InvalidRange": _CHANGED,
    "InvalidBlockList": (Corrupted, "blocks that were sent are gone"),
    "Md5Mismatch": (Corrupted, "what arrived has another MD5 than what was sent"),
    "BlockCountExceedsLimit": (TooLarge, "the archive has more blocks than it takes"),
    "RequestBodyTooLarge": (TooLarge, "the archive is larger than it takes"),
    "BlobArchived": (Rejected, "the blob is in the archive tier; have Azure rehydrate it first"),
    "BlobBeingRehydrated": (Rejected, "the blob is being taken out of the archive tier; try again later"),
    "BlobImmutableDueToPolicy": (Rejected, "a policy protects the blob of this name"),
    "LeaseIdMissing": (Rejected, "somebody holds a lease on the blob of this name"),
}


_EXISTS = {"BlobAlreadyExists", "ConditionNotMet", "UnauthorizedBlobOverwrite"}


@dataclass(frozen=True, slots=True)
class Sas:
    """A shared access signature: the query of a URL ("Create a service SAS")."""

    query: str = field(repr=False)

    def expired(self, headers: Mapping[str, str]) -> bool:
        """Return True when the time `se` is over by the service's clock, the header `Date`."""
        try:
            end = datetime.fromisoformat(parse_qs(self.query).get("se", [""])[0])
            now = parsedate_to_datetime(headers.get("date", ""))
        except ValueError:
            return False
        return end.replace(tzinfo=end.tzinfo or UTC) <= now


def refusal(location: str, sas: Sas, status: int, headers: Mapping[str, str]) -> StorageError:
    """Return the error for an answer outside 200-299. `headers` ignore letter case."""
    if status in (401, 403) and sas.expired(headers):
        return Expired(f"{location}: the SAS has expired; send the command again with a new one")
    return from_http_status(status, location, headers, _CODES.get(headers.get("x-ms-error-code", "")))


def says_exists(error: StorageError) -> bool:
    """Return True when `error` stands for an answer that there is a blob of this name."""
    cause = error.__cause__
    if not isinstance(cause, sdk.HttpResponseError) or not isinstance(cause.response, HttpResponse):
        return False
    return cause.response.headers.get("x-ms-error-code", "") in _EXISTS


def errors(location: str, sas: Sas, *, storing: bool = False) -> dict[type[BaseException], Classify]:
    """Return the table for `translating` during requests to `location`.

    With `storing`, the request makes a blob visible: when its answer is lost, so is its outcome.
    """
    broken = UnknownOutcome if storing else Unreachable

    def refused(error: BaseException) -> StorageError:
        assert isinstance(error, sdk.HttpResponseError)
        if not isinstance(error.response, HttpResponse):
            return broken(f"{location}: the answer cannot be understood")
        return refusal(location, sas, error.response.status_code, error.response.headers)

    unusable = means(
        Rejected, f"{location}: the Azure library cannot use these options, or not the answer it got"
    )
    return {
        **network_errors(location, broken),
        sdk.HttpResponseError: refused,
        sdk.ServiceRequestError: means(Unreachable, f"{location}: the connection cannot be made"),
        sdk.ServiceResponseError: means(broken, f"{location}: the connection broke"),
        sdk.AzureError: unusable,
        sdk.SerializationError: unusable,
        sdk.DeserializationError: unusable,
        ValueError: unusable,  # no text where the SDK expects XML, no number where it expects one
    }
