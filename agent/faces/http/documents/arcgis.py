"""Document 002, `backups/create` of ArcGIS Enterprise: stores, their backups, and jobs to follow."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from agent.base.refusals import Reason, Refused
from agent.base.text import readable
from agent.base.times import EPOCH, parse_milliseconds, parse_time
from agent.faces.http.api.context import Api
from agent.faces.http.documents.arcgis_form import answer, check_format, problem_answer, token_in
from agent.faces.http.documents.bodies import form_fields, in_words, refuse_unknown, require_form
from agent.faces.http.documents.destinations import (
    default_destination,
    everything,
    in_store,
    named_stores,
)
from agent.faces.http.documents.jobs import Stage, job_view
from agent.faces.http.documents.restoring import Fetchable, fetchable
from agent.faces.http.message import Problem, Request, Response
from agent.faces.http.routes import Route, Site
from agent.jobs.requests.backup import BackupRequest
from agent.jobs.requests.raw import read_raw

OPEN_PREFIX = "(?:/[^/]+)?/admin"
"""ArcGIS has `https://<host>/<context>/admin` before its paths."""
_STORES = "/system/disasterrecovery/stores"
_FIELDS = ("name", "storeName", "passcode", "description", "retentionDate", "f", "token")
_WORDS = {
    "backup.name": "name",
    "backup.passcode": "passcode",
    "backup.description": "description",
    "backup.store": "storeName",
}
_NEVER = "-1"
"""A retention date that never comes."""
_STATUS = {
    Stage.BEGINNING: "SUBMITTED",
    Stage.RUNNING: "EXECUTING",
    Stage.SUCCEEDED: "SUCCEEDED",
    Stage.FAILED: "FAILED",
    Stage.CANCELLED: "CANCELLED",
    Stage.UNKNOWN: "FAILED",
}


def arcgis_site(api: Api) -> Site:
    return Site(_ArcGis(api).routes(), problem_answer, OPEN_PREFIX, token_in)


class _ArcGis:
    def __init__(self, api: Api) -> None:
        self._api, self._settings, self._gate, self._made = api, api.settings, api.gate, api.engine.made

    def routes(self) -> Sequence[Route]:
        return (
            Route("GET", _STORES, self._stores),
            Route("GET", f"{_STORES}/{{storeName}}/backups", self._backups),
            Route("POST", f"{_STORES}/{{storeName}}/backups/create", self._create),
            Route("GET", "/jobs/{jobid}", self._job),
        )

    def _stores(self, request: Request) -> Response:
        _check_query(request)
        self._gate.check_offered("info", request.peer.face)  # it tells the stores, too
        default = default_destination(self._settings)
        stores = [
            {"name": name, "type": provider, "default": in_store(self._settings, name) == default}
            for name, provider in sorted(named_stores(self._settings).items())
        ]
        return answer(request, "Backup stores", {"backupStores": stores})

    def _backups(self, request: Request) -> Response:
        _check_query(request)
        store = self._store_of(request)
        made = self._gate.look("history", request.peer.face, self._made.all)
        found = [each for each in fetchable(made.ended, self._settings) if each.store == store]
        return answer(request, f"Backups in {store}", {"backups": [_shown(each) for each in found]})

    def _create(self, request: Request) -> Response:
        fields = _create_fields(request)
        store = self._store_of(request)
        if fields.get("storeName", store) != store:
            raise Problem(400, "the path and 'storeName' name different stores")
        job_id = f"j{uuid.uuid4()}"
        with in_words(_WORDS):
            self._gate.run(self._request(request, job_id, store, fields), request.peer.face)
        value = {"jobsUrl": _jobs_url(request, job_id), "jobid": job_id, "status": _STATUS[Stage.BEGINNING]}
        return answer(request, "Backup submitted", value)

    def _request(self, request: Request, job_id: str, store: str, fields: Mapping[str, str]) -> BackupRequest:
        """Read a backup. The document's own example is long past its retention date, so any date is taken."""
        options = {
            **everything(self._settings),
            **in_store(self._settings, store),
            "backup.name": fields["name"],
            "backup.passcode": fields["passcode"],
            "backup.description": fields.get("description", ""),
        }
        value = {"correlationId": job_id, "options": options}
        read = BackupRequest.read(read_raw("backup", value, request.peer.face), self._settings)
        date = _retention_date(fields.get("retentionDate", ""))
        return replace(read, label=replace(read.label, retention_date=date))

    def _job(self, request: Request) -> Response:
        _check_query(request)
        job = job_view(self._api, request, request.parts["jobid"])
        value = {
            "jobid": request.parts["jobid"],
            "status": _STATUS[job.stage],
            "progress": job.percent,
            "message": job.message,
        }
        return answer(request, "Job", value)

    def _store_of(self, request: Request) -> str:
        name, known = request.parts["storeName"], named_stores(self._settings)
        if name not in known:
            message = f"there is no store '{readable(name)}', only: {', '.join(sorted(known))}"
            raise Refused(Reason.NOT_FOUND, message)
        return name


def _check_query(request: Request) -> None:
    """Raise `Problem` 400 for a parameter that a GET does not have."""
    refuse_unknown(form_fields(request.query), ("f", "token"))
    check_format(request)


def _create_fields(request: Request) -> dict[str, str]:
    """Return the parameters of a backup. Raises `Problem` 400 and 415."""
    require_form(request)
    refuse_unknown(form_fields(request.query), ("f",))
    fields = form_fields(request.body)
    refuse_unknown(fields, _FIELDS)
    check_format(request)
    for name in ("name", "passcode"):
        if not fields.get(name):
            raise Problem(400, f"'{name}' is missing")
    return fields


def _retention_date(text: str) -> datetime | None:
    if text in ("", _NEVER):
        return None
    if date := parse_milliseconds(text):
        return date
    raise Problem(400, "'retentionDate' must be milliseconds since 1970, or -1 for never")


def _jobs_url(request: Request, job_id: str) -> str:
    # A web server in front may have taken off TLS; only the URL for its own client depends on what it says.
    is_tls = request.peer.tls or request.headers.get("x-forwarded-proto") == "https"
    scheme, host = "https" if is_tls else "http", request.headers.get("host", "localhost")
    return f"{scheme}://{host}{request.path.partition(_STORES)[0]}/jobs/{job_id}"


def _shown(backup: Fetchable) -> Mapping[str, Any]:
    record, facts = backup.record, backup.record.facts
    date = facts.get("retention_date")
    return {
        "name": facts.get("name", ""),
        "description": facts.get("description", ""),
        "backupStore": backup.store,
        "file": backup.archive,
        "size": facts.get("archive_bytes", 0),
        "startTime": _milliseconds(record.started),
        "completeTime": _milliseconds(record.ended),
        "retentionDate": _milliseconds(date) if date else int(_NEVER),
        "status": "completed",
    }


def _milliseconds(text: str) -> int:
    return (parse_time(text) - EPOCH) // timedelta(milliseconds=1)
