"""Errors of S3 and botocore, translated."""

import base64
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import closing

import botocore.exceptions  # type: ignore[import-untyped]
import pytest

from providers.api import Limits
from providers.aws import S3
from providers.aws.errors import errors
from providers.aws.storage import Bucket
from providers.errors import (
    AccessDenied,
    Expired,
    NotFound,
    Rejected,
    StorageError,
    UnknownOutcome,
    Unreachable,
)
from providers.part_sizes import PartPlan
from providers.testing.streams import BytesSource, MemorySink, StreamedSource, content
from tests.contract.place_aws import S3Place, serve_moto
from tests.support.http_server import HttpServer, Received, Say
from tests.support.stores import aws_client, moto_user

NAME = "backup.zip"
PART = 5 << 20
DATA = content(PART + 1000)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], S3Place]]:
    with serve_moto(tmp_path_factory.mktemp("moto")) as fresh_place:
        yield fresh_place


@pytest.fixture
def place(fresh: Callable[[], S3Place]) -> S3Place:
    return fresh()


def put(options: dict[str, str], data: bytes = DATA, limits: Limits | None = None) -> None:
    with closing(S3(options, limits or Limits())) as storage:
        storage.put(NAME, BytesSource(data), {}, {})


def get(options: dict[str, str]) -> bytes:
    sink = MemorySink()
    with closing(S3(options, Limits())) as storage:
        storage.get(NAME, sink, {})
    return bytes(sink.data)


def sdk_errors() -> list[type[Exception]]:
    classes = (kind for _, kind in inspect.getmembers(botocore.exceptions, inspect.isclass))
    return [
        kind
        for kind in classes
        if issubclass(kind, Exception)
        and not issubclass(kind, Warning)
        and kind.__module__ == "botocore.exceptions"
    ]


@pytest.mark.parametrize("kind", sdk_errors(), ids=lambda kind: kind.__name__)
def test_every_error_of_the_library_has_a_place(kind: type[Exception]) -> None:
    assert set(kind.__mro__) & errors("s3://bucket").keys()


# -- real refusals ----------------------------------------------------------------------------------


def test_a_wrong_bucket_is_not_found(place: S3Place) -> None:
    options = place.options(NAME) | {"aws.s3.bucket": "another-bucket"}
    with pytest.raises(NotFound, match="bucket does not exist"):
        put(options)
    with pytest.raises(NotFound, match="bucket does not exist"):
        get(options)


def test_an_unknown_access_key_is_access_denied(place: S3Place) -> None:
    with pytest.raises(AccessDenied, match="access key is unknown"):
        put(place.options(NAME) | {"aws.access.key.id": "AKIAUNKNOWN"})


def test_a_wrong_secret_says_so(place: S3Place) -> None:
    denied = place.denied_options(NAME)
    assert denied
    with pytest.raises(AccessDenied, match="secret key is not that"):
        put(denied)


def test_a_user_without_permission_is_access_denied(place: S3Place) -> None:
    user, secret = moto_user(place.server, f"reader-of-{place.bucket}", {"Action": "s3:Get*"})
    options = place.options(NAME) | {"aws.access.key.id": user, "aws.secret.access.key": secret}
    with pytest.raises(AccessDenied, match="do not allow this"):
        put(options)
    place.write(NAME, DATA)
    assert get(options) == DATA


def session(place: S3Place) -> dict[str, str]:
    """Options with temporary credentials, as a cloud backend gives them to a device."""
    iam, sts = aws_client(place.server, "iam"), aws_client(place.server, "sts")
    allowed = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    trust = policy.replace('"Resource": "*"', '"Principal": {"AWS": "*"}')
    role = iam.create_role(RoleName=place.bucket, AssumeRolePolicyDocument=trust)["Role"]
    iam.put_role_policy(RoleName=place.bucket, PolicyName="all", PolicyDocument=policy)
    given = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="device")["Credentials"]
    return place.options(NAME) | {
        "aws.access.key.id": given["AccessKeyId"],
        "aws.secret.access.key": given["SecretAccessKey"],
        "aws.session.token": given["SessionToken"],
    }


def test_temporary_credentials_are_accepted_with_their_token(place: S3Place) -> None:
    put(session(place))
    assert place.read(NAME) == DATA


def test_a_wrong_session_token_is_access_denied(place: S3Place) -> None:
    with pytest.raises(AccessDenied, match="session token is not valid"):
        put(session(place) | {"aws.session.token": "wrong"})


def test_an_object_in_an_archive_class_is_not_taken_for_missing_rights(place: S3Place) -> None:
    """A lifecycle rule moved it there; the answer is 403, as for a user without rights."""
    place.client.put_object(Bucket=place.bucket, Key=NAME, Body=DATA, StorageClass="GLACIER")
    with pytest.raises(Rejected, match="in an archive class"):
        get(place.options(NAME))


# -- answers that the stand-ins do not give -----------------------------------------------------------


def refusing(status: int, code: str, headers: dict[str, str] | None = None) -> HttpServer:
    body = f"<Error><Code>{code}</Code><Message>the signature was sig-0123</Message></Error>".encode()
    return HttpServer(lambda _: Say(status, {"Connection": "close", **(headers or {})}, body))


def stub_options(server: HttpServer) -> dict[str, str]:
    return {
        "aws.endpoint.url": f"http://127.0.0.1:{server.port}",
        "aws.s3.bucket": "bucket",
        "aws.access.key.id": "key",
        "aws.secret.access.key": "secret",
    }


@pytest.mark.parametrize(
    ("status", "code", "kind", "says"),
    [
        (400, "ExpiredToken", Expired, "expired"),
        (403, "RequestTimeTooSkewed", AccessDenied, "clock"),
        (301, "PermanentRedirect", Rejected, "aws.region"),
        (400, "RequestTimeout", Unreachable, "waited too long"),
        (503, "SlowDown", Unreachable, "slow down"),
        (500, "InternalError", Unreachable, "failed"),
        (429, "SomethingNew", Unreachable, "HTTP 429"),
        (403, "SomethingNew", AccessDenied, "HTTP 403"),
        (418, "SomethingNew", Rejected, "HTTP 418"),
    ],
)
def test_refusals_are_told_apart_and_asked_for_once(
    status: int, code: str, kind: type[StorageError], says: str
) -> None:
    with refusing(status, code) as server:
        with pytest.raises(kind, match=says) as raised:
            put(stub_options(server))
        assert type(raised.value) is kind
        assert "sig-0123" not in str(raised.value)
        assert len(server.requests) == 1


def test_retry_after_is_passed_on() -> None:
    with refusing(503, "SlowDown", {"Retry-After": "7"}) as server:
        with pytest.raises(Unreachable) as raised:
            put(stub_options(server))
        assert raised.value.retry_after_s == 7


@pytest.mark.parametrize("body", [b"", b"<html>a captive portal", b"\xff\x00"])
def test_an_answer_of_something_else_is_an_error_of_the_tree(body: bytes) -> None:
    with HttpServer(lambda _: Say(200, {"Connection": "close"}, body)) as server:
        options = stub_options(server)
        with pytest.raises(StorageError):
            put(options, content(9 << 20))
        with pytest.raises(StorageError):
            put(options, b"small")
        with pytest.raises(StorageError):
            get(options)
        with pytest.raises(StorageError), closing(S3(options, Limits())) as storage:
            list(storage.list(""))


_GONE = b"<Error><Code>NoSuchUpload</Code></Error>"


class ForgetfulStore:
    """S3 in the small: it completes an upload, and hangs up instead of saying so."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.completed = 0

    def __call__(self, request: Received) -> Say:
        close = {"Connection": "close"}
        if request.method == "POST" and "uploads" in request.target:
            return Say(200, close, b"<CreateResult><UploadId>id-1</UploadId></CreateResult>")
        if request.method == "PUT":
            self.parts.append(bytes.fromhex(_md5_of(request)))
            return Say(200, close | {"ETag": f'"{_md5_of(request)}"'})
        if request.method == "POST":
            self.completed += 1
            return Say(hang_up=True) if self.completed == 1 else Say(404, close, _GONE)
        if request.method == "HEAD":
            whole = hashlib.md5(b"".join(self.parts)).hexdigest()
            return Say(200, close | {"ETag": f'"{whole}-2"'})
        return Say(404, close, _GONE)


def _md5_of(request: Received) -> str:
    return base64.b64decode(request.headers["content-md5"]).hex()


@pytest.mark.parametrize("streamed", [False, True], ids=["staged", "streamed"])
def test_when_the_answer_to_the_last_request_is_lost_nothing_is_sent_again(
    streamed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bucket, "plan", PartPlan(PART, PART, grow_every=1000, most_parts=100))
    source = StreamedSource(DATA) if streamed else BytesSource(DATA)
    checkpoint: dict[str, str] = {}
    with HttpServer(ForgetfulStore()) as server, closing(S3(stub_options(server), Limits())) as storage:
        with pytest.raises(UnknownOutcome):
            storage.put(NAME, source, {}, checkpoint)
        stored = storage.put(NAME, source, {}, checkpoint)
        sent = [request for request in server.requests if request.method == "PUT"]
    assert stored.size_bytes == len(DATA)
    assert [len(request.body) for request in sent] == [PART, 1000]
    assert checkpoint == {}


def test_a_store_without_conditional_requests_gets_objects_without_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Names of objects are hashes of their contents, so one that is replaced stays as it was."""

    def answer(request: Received) -> Say:
        close = {"Connection": "close"}
        if "if-none-match" in request.headers:
            return Say(501, close, b"<Error><Code>NotImplemented</Code></Error>")
        return Say(200, close | {"ETag": f'"{_md5_of(request)}"'})

    with HttpServer(answer) as server, closing(S3(stub_options(server), Limits())) as storage:
        storage.create("locks/1", b"one")
        storage.create("locks/2", b"two")
        asked = [(request.target, "if-none-match" in request.headers) for request in server.requests]
    assert [condition for _, condition in asked] == [True, False, False]
    assert len(caplog.records) == 1
    assert "If-None-Match" in caplog.text


def test_an_object_that_another_request_makes_at_this_moment_is_asked_for_again() -> None:
    with (
        refusing(409, "ConditionalRequestConflict") as server,
        closing(S3(stub_options(server), Limits())) as storage,
        pytest.raises(Unreachable),
    ):
        storage.create("locks/1", b"one")
