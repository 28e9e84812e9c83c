"""Periodic backups, and pending uploads."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from agent.faces.http.api.context import Api
from agent.faces.http.api.endpoint import Answer, Arguments, Endpoint, Nothing, json_response, no_content
from agent.faces.http.api.jobs import OptionValues, texts
from agent.faces.http.api.values import schedule_value
from agent.faces.http.message import Request, Response
from agent.settings.schedules import KANTO

Time = Annotated[str, Field(description="An RFC 3339 time, such as '2027-01-31T12:00:00Z'.")]


class ActivateOrder(Arguments):
    start: Annotated[Time, Field(alias="from")] = ""
    end: Annotated[Time, Field(alias="to")] = ""


class StartOrder(Arguments):
    options: OptionValues


def get_schedule(api: Api, _request: Request, _: Nothing) -> Response:
    def look() -> Mapping[str, Any]:
        schedules = api.engine.schedules
        states = {name: state.value() for name, state in schedules.states().items() if name != KANTO}
        periodic = schedules.periodic
        return {**schedule_value(periodic.frame), **periodic.ticks.state().value(), "schedules": states}

    return json_response(api.gate.call(look))


def activate(api: Api, request: Request, order: ActivateOrder) -> Response:
    api.gate.command("activate", {"from": order.start, "to": order.end}, request.peer.face)
    return no_content()


def deactivate(api: Api, request: Request, _: Nothing) -> Response:
    api.gate.command("deactivate", None, request.peer.face)
    return no_content()


def list_uploads(api: Api, _request: Request, _: Nothing) -> Response:
    return json_response({"uploads": api.gate.call(api.engine.status.uploads)})


def start_upload(api: Api, request: Request, order: StartOrder) -> Response:
    value = {"correlationId": request.parts["id"], "options": texts(order.options)}
    api.gate.command("start", value, request.peer.face)
    return no_content()


_DONE = Answer(204, "Done.")

SCHEDULE_ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        "GET", "/schedule", "Show the periodic backups", Nothing, get_schedule,
        (Answer(200, "The time frame, and how it stands.", "Schedule"),),
    ),
    Endpoint(
        "POST", "/schedule/activate", "Switch periodic backups on", ActivateOrder, activate, (_DONE,),
        problems=(507,),
    ),
    Endpoint(
        "POST", "/schedule/deactivate", "Switch periodic backups off", Nothing, deactivate, (_DONE,),
        problems=(507,),
    ),
    Endpoint(
        "GET", "/uploads", "List the archives that wait for their upload", Nothing, list_uploads,
        (Answer(200, "Pending uploads, oldest first.", "Uploads"),),
    ),
    Endpoint(
        "POST", "/uploads/{id}/start", "Upload an archive that waits", StartOrder, start_upload,
        (Answer(204, "The upload has begun, or waits in line."),), problems=(404, 409, 422, 507),
    ),
)  # fmt: skip
