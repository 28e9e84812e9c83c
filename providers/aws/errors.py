"""The table from exceptions of botocore and answers of S3 to our errors."""

from botocore import exceptions as sdk  # type: ignore[import-untyped]

from providers.errors import (
    AccessDenied,
    Classify,
    Corrupted,
    Expired,
    NoBucket,
    NoSpace,
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

_EXPIRED = (Expired, "the credentials have expired; send the command again with new ones")
_SLOW_DOWN = (Unreachable, "it asks to slow down")
_OTHER_REGION = (Rejected, "the bucket is in another region; check aws.region")

# S3 API reference, "List of error codes"; codes that are not here go by their HTTP status.
_CODES: dict[str, tuple[type[StorageError], str]] = {
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": (AccessDenied, "this device's clock is off; set it and try again"),
    "AccessDenied": (AccessDenied, "the credentials do not allow this"),
    "AuthFailure": (AccessDenied, "the credentials are not accepted"),
    "InvalidAccessKeyId": (AccessDenied, "the access key is unknown"),
    "InvalidToken": (AccessDenied, "the session token is not valid"),
    "SignatureDoesNotMatch": (AccessDenied, "the secret key is not that of the access key"),
    "NoSuchBucket": (NoBucket, "the bucket does not exist"),
    "NoSuchKey": (NotFound, "there is no such object"),
    "NoSuchUpload": (NotFound, "the multipart upload is gone"),
    "BadDigest": (Corrupted, "what arrived has another MD5 than what was sent"),
    "IncompleteBody": (Corrupted, "less arrived than was announced"),
    "InvalidDigest": (Corrupted, "the MD5 was not understood"),
    "InvalidRange": (Corrupted, "the object changed in the meantime"),
    "PreconditionFailed": (Corrupted, "the object changed in the meantime"),
    "XAmzContentSHA256Mismatch": (Corrupted, "what arrived has another SHA-256 than what was sent"),
    "InvalidObjectState": (
        Rejected,
        "the object is in an archive class (Glacier); have S3 restore it first",
    ),
    "NotImplemented": (Rejected, "it does not know such a request"),
    "EntityTooLarge": (TooLarge, "the archive is larger than it takes"),
    "InsufficientCapacity": (NoSpace, "it is full"),
    "QuotaExceeded": (NoSpace, "its quota is used up"),
    "AuthorizationHeaderMalformed": _OTHER_REGION,
    "IllegalLocationConstraintException": _OTHER_REGION,
    "PermanentRedirect": _OTHER_REGION,
    "InternalError": (Unreachable, "it failed and asks to try again"),
    "ConditionalRequestConflict": (Unreachable, "it is busy with another change of the same object"),
    "OperationAborted": (Unreachable, "it is busy with another change of the same object"),
    "RequestTimeout": (Unreachable, "it waited too long for the next byte"),
    "ServiceUnavailable": _SLOW_DOWN,
    "SlowDown": _SLOW_DOWN,
    "Throttling": _SLOW_DOWN,
    "ThrottlingException": _SLOW_DOWN,
    "TooManyRequests": _SLOW_DOWN,
}


def not_a_store(location: str) -> Unreachable:
    """Return the error for a success that lacks what S3 always sends: a captive portal, a wrong address."""
    return Unreachable(f"{location}: what answers there is not an S3 store; check aws.endpoint.url")


def status_behind(error: StorageError) -> int:
    """Return the HTTP status of the answer that was translated to `error`; 0 when there was none."""
    cause = error.__cause__
    if not isinstance(cause, sdk.ClientError):
        return 0
    return int(cause.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def errors(location: str, *, storing: bool = False) -> dict[type[BaseException], Classify]:
    """Return the table for `translating` during requests to `location`.

    With `storing`, the request makes an object visible: when its answer is lost, so is its outcome.
    """

    def refused(error: BaseException) -> StorageError:
        assert isinstance(error, sdk.ClientError)
        reply = error.response.get("ResponseMetadata", {})
        known = _CODES.get(error.response.get("Error", {}).get("Code", ""))
        headers = reply.get("HTTPHeaders", {})
        return from_http_status(reply.get("HTTPStatusCode", 400), location, headers, known)

    unusable = means(
        Rejected, f"{location}: the S3 library cannot use these options, or not the answer it got"
    )
    lost = means(Unreachable, f"{location}: the connection broke")
    return {
        **network_errors(location, UnknownOutcome if storing else Unreachable),
        sdk.ClientError: refused,
        sdk.BotoCoreError: unusable,
        sdk.UndefinedModelAttributeError: unusable,
        ValueError: unusable,  # a number or a time in a header that is none
        # Our pool sends, so these come only while an answer's body is being read.
        sdk.HTTPClientError: lost,
        sdk.IncompleteReadError: lost,
    }
