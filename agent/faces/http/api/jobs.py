"""Jobs: begun, looked at, cancelled, and the decisions about a restore."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field

from agent.faces.http.api.context import Api
from agent.faces.http.api.endpoint import (
    PREFIX,
    Answer,
    Arguments,
    Endpoint,
    Nothing,
    json_response,
    no_content,
)
from agent.faces.http.api.values import current_jobs, find_job
from agent.faces.http.message import Problem, Request, Response

PAGE_BYTES = 64 << 10
MOST_IN_A_PAGE = 100

OptionValue = str | bool | int | list[str]
OptionValues = Annotated[
    dict[str, OptionValue],
    Field(
        default_factory=dict,
        repr=False,
        description="Options by their keys, as in docs/wire.md.",
    ),
]


class JobOrder(Arguments):
    operation: Literal["backup", "restore", "verify"]
    correlation_id: Annotated[str, Field(max_length=256)] = Field("", description="An id of your choice.")
    options: OptionValues
    output: str = Field(
        "", description="For a backup through the Unix socket: the file that the archive is written to."
    )


class CancelOrder(Arguments):
    status_code: Annotated[str, Field(max_length=64)] = Field("", description="The status code to end with.")
    message: Annotated[str, Field(max_length=1000)] = Field("", description="The message to end with.")


class FinalizeOrder(Arguments):
    confirm_within: str = Field("", description="The time for the confirmation, such as '10m'.")


class JobsQuery(Arguments):
    before: str = Field("", description="The id of a job: the answer has those that began earlier.")
    limit: Annotated[int, Field(ge=1, le=MOST_IN_A_PAGE)] = MOST_IN_A_PAGE


def begin_job(api: Api, request: Request, order: JobOrder) -> Response:
    value: dict[str, Any] = {"correlationId": order.correlation_id, "options": texts(order.options)}
    if order.output:
        if not request.peer.is_local:
            raise Problem(403, "'output' names a file of the device: it is taken over the Unix socket only")
        value["output"] = order.output
    return accepted(api, request, order.operation, value)


def accepted(api: Api, request: Request, operation: str, value: Mapping[str, Any]) -> Response:
    """Carry out a command that makes a job, and answer with the job."""
    job_id = api.gate.command(operation, value, request.peer.face)
    assert job_id
    job = api.gate.call(partial(find_job, api.engine, job_id))
    return json_response(job, 202, {"Location": f"{PREFIX}/jobs/{quote(job_id, safe='')}"})


def list_jobs(api: Api, request: Request, query: JobsQuery) -> Response:
    """Answer with the job that runs and a preview that waits, then with ended ones, newest first."""
    face, current = request.peer.face, list[Mapping[str, Any]]()
    if not query.before:
        current = api.gate.look("status", face, partial(current_jobs, api.engine))
    options = {"history.before": query.before} if query.before else {}
    page = api.gate.ask("history", {"options": options}, face, PAGE_BYTES)
    ended = page["entries"][: query.limit]
    known = {job["id"] for job in ended}  # one that has just ended is not shown twice
    answer = {"jobs": [*(job for job in current if job["id"] not in known), *ended]}
    is_cut = len(page["entries"]) > query.limit or "next" in page
    return json_response({**answer, "next": ended[-1]["id"]} if is_cut else answer)


def get_job(api: Api, request: Request, _: Nothing) -> Response:
    return json_response(job_of(api, request, request.parts["id"]))


def job_of(api: Api, request: Request, either_id: str) -> Mapping[str, Any]:
    """Return the job with this id or correlation id, the newest of several.

    Raises `Refused` (NOT_FOUND), and what the gate raises.
    """
    return api.gate.look("describe", request.peer.face, partial(find_job, api.engine, either_id))


def cancel_job(api: Api, request: Request, order: CancelOrder) -> Response:
    value = {"statusCode": order.status_code, "message": order.message}
    return _decided(api, request, "cancel", value)


def finalize(api: Api, request: Request, order: FinalizeOrder) -> Response:
    options = {"restore.confirmWithin": order.confirm_within}
    return accepted(api, request, "finalize", _by_id(request, {"options": options}))


def discard(api: Api, request: Request, _: Nothing) -> Response:
    return _decided(api, request, "discard", {})


def confirm(api: Api, request: Request, _: Nothing) -> Response:
    return _decided(api, request, "confirm", {})


def _decided(api: Api, request: Request, operation: str, value: Mapping[str, Any]) -> Response:
    api.gate.command(operation, _by_id(request, value), request.peer.face)
    return no_content()


def _by_id(request: Request, value: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**value, "correlationId": request.parts["id"]}


def texts(options: Mapping[str, OptionValue]) -> Mapping[str, Any]:
    """Return options as the engine reads them: a number becomes its text."""
    return {key: str(value) if type(value) is int else value for key, value in options.items()}


_ACCEPTED = Answer(202, "The job has begun; the header `Location` names it.", "Job")
_DONE = Answer(204, "Done.")

JOB_ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        "POST", "/jobs", "Begin a backup, a restore or a verification", JobOrder, begin_job, (_ACCEPTED,),
        problems=(409, 422, 507),
    ),
    Endpoint(
        "GET", "/jobs", "List jobs, newest first", JobsQuery, list_jobs,
        (Answer(200, "A page; `next` is there when there are earlier jobs.", "JobPage"),), problems=(404,),
    ),
    Endpoint(
        "GET", "/jobs/{id}", "Show a job", Nothing, get_job,
        (Answer(200, "The job.", "Job"),), problems=(404,),
    ),
    Endpoint(
        "POST", "/jobs/{id}/cancel", "Stop a job, or the uploads of an id", CancelOrder, cancel_job, (_DONE,),
        problems=(404, 507),
    ),
    Endpoint(
        "POST", "/jobs/{id}/finalize", "Carry out the restore that was previewed", FinalizeOrder, finalize,
        (_ACCEPTED,), problems=(404, 409, 507),
    ),
    Endpoint(
        "POST", "/jobs/{id}/discard", "Remove the preview that waits", Nothing, discard, (_DONE,),
        problems=(404, 507),
    ),
    Endpoint(
        "POST", "/jobs/{id}/confirm", "Keep the data of a commit-confirmed restore", Nothing, confirm,
        (_DONE,), problems=(404, 507),
    ),
)  # fmt: skip
