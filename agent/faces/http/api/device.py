"""The state of the device, its schedule and its uploads; and removing archives."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from agent.faces.http.api.context import Api
from agent.faces.http.api.endpoint import Answer, Arguments, Endpoint, Nothing, json_response, no_content
from agent.faces.http.api.jobs import OptionValues, texts
from agent.faces.http.api.values import schedule_value
from agent.faces.http.message import JSON, Problem, Request, Response
from agent.settings.load import effective
from agent.settings.schedules import KANTO

Time = Annotated[str, Field(description="An RFC 3339 time, such as '2027-01-31T12:00:00Z'.")]


class PruneOrder(Arguments):
    dry_run: bool = False


class ActivateOrder(Arguments):
    start: Annotated[Time, Field(alias="from")] = ""
    end: Annotated[Time, Field(alias="to")] = ""


class StartOrder(Arguments):
    options: OptionValues


def status(api: Api, request: Request, _: Nothing) -> Response:
    return json_response(api.gate.ask("status", None, request.peer.face))


def health(api: Api, _request: Request, _: Nothing) -> Response:
    return json_response(api.gate.call(api.engine.health.value))


def info(api: Api, request: Request, _: Nothing) -> Response:
    return json_response(api.gate.ask("info", None, request.peer.face))


def stores(api: Api, request: Request, _: Nothing) -> Response:
    api.gate.check_offered("info", request.peer.face)  # it has the same facts, and more
    return json_response(api.destinations.value())


def settings(api: Api, _request: Request, _: Nothing) -> Response:
    return json_response(effective(api.settings))


def prune(api: Api, request: Request, order: PruneOrder) -> Response:
    if not request.peer.is_local:
        raise Problem(403, "archives are removed by hand over the Unix socket only")
    return json_response(api.gate.ask("prune", {"dryRun": order.dry_run}, request.peer.face))


def describe_api(_api: Api, _request: Request, _: Nothing) -> Response:
    from agent.faces.http.api.openapi import openapi_json

    return Response(200, {"Content-Type": JSON}, openapi_json())


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

DEVICE_ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        "GET", "/status", "Show what the agent does now", Nothing, status,
        (Answer(200, "The job that runs, or the last one.", "Status"),),
    ),
    Endpoint(
        "GET", "/health", "Show how well the device is protected", Nothing, health,
        (Answer(200, "As the twin's property `health`.", "Health"),),
    ),
    Endpoint(
        "GET", "/info", "Show what a backup would save and skip now, and the destinations", Nothing, info,
        (Answer(200, "As the answer to `info`, see docs/wire.md.", "AnyObject"),), problems=(409,),
    ),
    Endpoint(
        "GET", "/stores", "Show the stores, and the targets with their free space", Nothing, stores,
        (Answer(200, "`nameOption` is the option that names an archive there.", "Destinations"),),
    ),
    Endpoint(
        "GET", "/settings", "Show the settings; secrets that are set read `***`", Nothing, settings,
        (Answer(200, "Every setting by its key.", "Settings"),),
    ),
    Endpoint(
        "GET", "/openapi.json", "Show this description of the API", Nothing, describe_api,
        (Answer(200, "The description.", "AnyObject"),),
    ),
    Endpoint(
        "POST", "/prune", "Remove old archives by the rules of retention; over the Unix socket only",
        PruneOrder, prune, (Answer(200, "What was removed from each destination.", "AnyObject"),),
        problems=(409, 507),
    ),
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
