"""Document 004, `system/backup` of Distech's ECLYPSE: data types and projects, onto the device or a stick."""

import os
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from agent.base.refusals import Reason, Refused
from agent.base.text import folded, readable
from agent.faces.http.api.context import Api
from agent.faces.http.api.endpoint import json_response, no_content
from agent.faces.http.documents.bodies import in_words, refuse_unknown
from agent.faces.http.documents.destinations import (
    WireOptions,
    device_target,
    everything,
    in_target,
    stick_target,
)
from agent.faces.http.documents.jobs import Stage, job_view
from agent.faces.http.message import Problem, Request, Response
from agent.faces.http.problems import problem_document
from agent.faces.http.routes import Route, Site
from agent.jobs.filesystem_probe import Probes

PROJECTS = "ENVYSION"
"""The data set whose entries are the projects."""
_ROOT = "/api/rest/v1"
_TARGETS = {"device": device_target, "usbkey": stick_target}
_FIELDS = {name.lower(): name for name in ("target", "fileName", "dataTypes", "envysionProjects")}
_WORDS = {
    "backup.name": "fileName",
    "backup.dataTypes": "dataTypes",
    "backup.paths": "envysionProjects",
    "local.target": "target",
}
_STATUS = {
    Stage.BEGINNING: "RUNNING",
    Stage.RUNNING: "RUNNING",
    Stage.SUCCEEDED: "DONE",
    Stage.FAILED: "FAILED",
    Stage.CANCELLED: "CANCELLED",
    Stage.UNKNOWN: "FAILED",
}


def eclypse_site(api: Api) -> Site:
    return Site(_Eclypse(api).routes(), _problem)


def _problem(request: Request, problem: Problem) -> Response:
    """Word a problem. The document knows 400 for all that the device cannot do, such as an absent stick."""
    status = 400 if problem.status == 422 else problem.status
    return problem_document(request, Problem(status, problem.detail, problem.headers))


class _Eclypse:
    def __init__(self, api: Api) -> None:
        self._api, self._settings, self._gate = api, api.settings, api.gate
        self._probes, self._alone = Probes(), threading.Lock()

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", f"{_ROOT}/system/backup", self._possible),
            Route("POST", f"{_ROOT}/system/backup/create", self._create),
            Route("GET", f"{_ROOT}/jobs/{{id}}", self._job),
            Route("POST", f"{_ROOT}/jobs/{{id}}/cancel", self._cancel),
        )

    def _possible(self, request: Request) -> Response:
        """Answer what can be backed up."""
        self._gate.check_offered("info", request.peer.face)
        data_types = sorted(name for name in self._settings.data_sets if name != PROJECTS)
        return json_response({"dataTypes": data_types, "envysionProjects": sorted(self._projects())})

    def _create(self, request: Request) -> Response:
        body = _known_fields(request.json_object())
        options = {**self._target(body), **self._choice(body), "backup.name": _text(body, "fileName")}
        with in_words(_WORDS):
            job_id = self._gate.command("backup", {"options": options}, request.peer.face)
        return json_response({"JobId": job_id})

    def _target(self, body: Mapping[str, Any]) -> WireOptions:
        word = _text(body, "target")
        find = _TARGETS.get(word.lower())
        if find is None:
            raise Problem(400, "'target' must be Device or UsbKey")
        name = find(self._settings)
        if name is None:
            raise Problem(400, f"this device has no target for {word}: name one in its setting 'targets'")
        return in_target(name)

    def _choice(self, body: Mapping[str, Any]) -> WireOptions:
        data_types, projects = _texts(body, "dataTypes"), _texts(body, "envysionProjects")
        if not projects:
            return {"backup.dataTypes": data_types} if data_types else everything(self._settings)
        known = self._projects()
        if unknown := [name for name in projects if name not in known]:
            there = ", ".join(sorted(known)) or "none"
            raise Problem(400, f"there is no envysion project '{readable(unknown[0])}', only: {there}")
        whole = [each for each in dict.fromkeys(data_types) if each != PROJECTS]
        paths = [path for each in whole if each in self._settings.data_sets for path in self._paths(each)]
        chosen = paths + [known[name] for name in projects]
        return {"backup.dataTypes": [*whole, PROJECTS], "backup.paths": chosen}

    def _projects(self) -> Mapping[str, str]:
        """Return the path of each project. Raises `Refused` when the disk does not answer."""
        if PROJECTS not in self._settings.data_sets:
            return {}
        listed = partial(_entries, self._paths(PROJECTS))
        with self._alone:  # the probes belong to one thread at a time
            return self._probes.look_or_refuse(f"data set '{PROJECTS}'", listed)

    def _paths(self, data_set: str) -> Sequence[str]:
        return self._settings.data_sets[data_set].paths

    def _job(self, request: Request) -> Response:
        job = job_view(self._api, request, request.parts["id"])
        value = {
            "JobId": job.id,
            "Type": job.kind.upper(),
            "Status": _STATUS[job.stage],
            "Progress": job.percent or 0,
            "Message": job.message,
        }
        return json_response(value)

    def _cancel(self, request: Request) -> Response:
        job = job_view(self._api, request, request.parts["id"])
        if not job.runs:
            raise Refused(Reason.NOT_FOUND, "this job does not run any more")
        self._gate.command("cancel", {"correlationId": job.correlation_id}, request.peer.face)
        return no_content()


def _known_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields by the names of the document's examples; its table begins them with a capital."""
    fields = folded(body)
    refuse_unknown({_FIELDS.get(key, key): None for key in fields}, _FIELDS.values())
    return {_FIELDS[key]: value for key, value in fields.items()}


def _text(body: Mapping[str, Any], name: str) -> str:
    text = body.get(name, "")
    if not isinstance(text, str):
        raise Problem(400, f"'{name}' must be a text")
    return text


def _texts(body: Mapping[str, Any], name: str) -> list[str]:
    texts = body.get(name, [])
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise Problem(400, f"'{name}' must be a list of texts")
    return texts


def _entries(directories: Sequence[str]) -> Mapping[str, str]:
    """Return the visible entries of directories with their paths; none of one that cannot be read."""
    found: dict[str, str] = {}
    for directory in directories:
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        found |= {name: os.path.join(directory, name) for name in names if not name.startswith(".")}
    return found
