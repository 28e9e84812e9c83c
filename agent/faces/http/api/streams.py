"""Server-Sent Events: the engine's events as they come, all of them or those of one job.

The format is that of https://html.spec.whatwg.org/multipage/server-sent-events.html.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from agent.base.refusals import Refused
from agent.base.text import compact_json
from agent.faces.http.api.context import Api
from agent.faces.http.api.endpoint import Answer, Endpoint, Nothing
from agent.faces.http.api.event_log import EventLog
from agent.faces.http.api.jobs import job_of
from agent.faces.http.api.values import find_job
from agent.faces.http.message import Request, Response

HEARTBEAT_S = 5.0
"""A comment is sent after this time without an event: a client that is gone is noticed."""
HEARTBEAT = b": nothing new\n\n"
STREAM = "text/event-stream"
_NUMBER = re.compile("[0-9]{1,18}")


def all_events(api: Api, request: Request, _: Nothing) -> Response:
    api.gate.check_offered("status", request.peer.face)
    position = _position(api.events, request)
    return _stream(_all(api.events, position, is_continued=bool(request.headers.get("last-event-id"))))


def job_events(api: Api, request: Request, _: Nothing) -> Response:
    """Answer with the events of one job that are kept, and those that come, until it runs no more.

    The last one is `end`, with the job as `GET /jobs/{id}` shows it.
    """
    job_id = job_of(api, request, request.parts["id"])["id"]
    return _stream(_of_job(api, job_id, _position(api.events, request) or 0))


def _stream(events: Iterator[bytes]) -> Response:
    # nginx would keep the events until it has enough of them.
    return Response(200, {"Content-Type": STREAM, "X-Accel-Buffering": "no"}, events, is_events=True)


def _position(log: EventLog, request: Request) -> int | None:
    """Return the number of the last event that the client has; None for one that this run does not know."""
    run, _, number = request.headers.get("last-event-id", "").partition(".")
    known = run == log.run and _NUMBER.fullmatch(number) and int(number) <= log.newest
    return int(number) if known else None


def _all(log: EventLog, position: int | None, *, is_continued: bool) -> Iterator[bytes]:
    if position is None:
        position = log.newest
        # A client that loses the connection before the first event has a place to go on.
        yield _event(log, position, "reset", b"{}") if is_continued else _id(log, position) + b"\n"
    while (batch := log.after(position, HEARTBEAT_S)) is not None:
        if not batch.complete:
            yield _event(log, batch.newest, "reset", b"{}")
        elif not batch.events:
            yield HEARTBEAT
        else:
            for told in batch.events:
                yield _event(log, told.number, told.name, told.data)
        position = max(position, batch.newest)


def _of_job(api: Api, job_id: str, position: int) -> Iterator[bytes]:
    log, runs, has_ended = api.events, api.gate.call(partial(_runs, api, job_id)), False
    while (batch := log.after(position, HEARTBEAT_S if runs else 0)) is not None:
        for told in batch.events:
            if told.job_id == job_id:
                yield _event(log, told.number, told.name, told.data)
                has_ended = has_ended or told.name == "jobEnded"
        position = max(position, batch.newest)
        if not runs:
            job = _ended(api, job_id)
            if job or has_ended:  # otherwise the agent stops, and the job goes on after its next start
                yield _event(log, position, "end", compact_json({"job": job}))
            return
        if not batch.events:
            yield HEARTBEAT
        # What was told before this question is taken before the end.
        runs = api.gate.call(partial(_runs, api, job_id))


def _runs(api: Api, job_id: str) -> bool:
    job = api.engine.progress.job
    return job is not None and job.id == job_id


def _ended(api: Api, job_id: str) -> Mapping[str, Any] | None:
    try:
        return api.gate.call(partial(find_job, api.engine, job_id))
    except Refused:  # the journal could not keep its end
        return None


def _event(log: EventLog, number: int, name: str, data: bytes) -> bytes:
    return _id(log, number) + b"event: %s\ndata: %s\n\n" % (name.encode(), data)


def _id(log: EventLog, number: int) -> bytes:
    return f"id: {log.run}.{number}\n".encode()


EVENT_ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        "GET", "/events", "Follow all events", Nothing, all_events,
        (Answer(200, "Events as they come; see docs/http.md.", media_type=STREAM),), problems=(503,),
    ),
    Endpoint(
        "GET", "/jobs/{id}/events", "Follow one job to its end", Nothing, job_events,
        (Answer(200, "Its events; the last one is `end`.", media_type=STREAM),), problems=(404, 503),
    ),
)  # fmt: skip
