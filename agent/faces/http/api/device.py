"""The state of the device: status, health, a coming backup, destinations, settings; and removing archives."""

from typing import Any

from agent.faces.http.api.context import Api
from agent.faces.http.api.endpoint import Answer, Arguments, Endpoint, Nothing, json_response
from agent.faces.http.message import JSON, Problem, Request, Response
from agent.settings.load import effective


class PruneOrder(Arguments):
    dry_run: bool = False


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
)  # fmt: skip
