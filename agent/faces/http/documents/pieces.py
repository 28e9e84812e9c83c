"""Document 003, the Backup API of Pieces OS: single backups by `<version>_<timestamp>`.

An error is a text. On these paths, and on these alone, what is not found or not in progress is a 500.
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any

from agent.base.refusals import Reason, Refused
from agent.base.text import compact_json
from agent.faces.http.api.context import Api
from agent.faces.http.api.endpoint import json_response, no_content
from agent.faces.http.api.event_log import Batch
from agent.faces.http.documents.bodies import in_words
from agent.faces.http.documents.destinations import WireOptions, default_destination, everything
from agent.faces.http.documents.jobs import JobView, Stage, job_view, recorded_job, running_job
from agent.faces.http.documents.pieces_models import (
    Model,
    backup_status,
    backups,
    ended_backup,
    running_backup,
    started_of,
    streamed_progress,
)
from agent.faces.http.documents.restoring import Fetchable, fetchable, options_to_restore
from agent.faces.http.message import JSON, Problem, Request, Response
from agent.faces.http.routes import Route, Site
from agent.jobs.queries.history import Made
from agent.settings import Settings

_WORDS = {"backup.paths": "id", "backup.dataTypes": "id"}
LOOK_AGAIN_S = 0.1
"""The least time between two looks at the progress that is streamed: it may change with every block."""
TELL_AGAIN_S = 10.0
"""The time after which progress that has not changed is sent again: it finds a client that is gone."""


def pieces_site(api: Api) -> Site:
    return Site(_Pieces(api).routes(), text_problem)


def text_problem(_request: Request, problem: Problem) -> Response:
    status = 500 if problem.status == 404 else problem.status
    headers = {"Content-Type": "text/plain; charset=utf-8", **problem.headers}
    return Response(status, headers, problem.detail.encode("utf-8", "replace"))


class _Pieces:
    def __init__(self, api: Api) -> None:
        self._api, self._settings, self._gate, self._made = api, api.settings, api.gate, api.engine.made

    def routes(self) -> Sequence[Route]:
        return (
            Route("POST", "/backup", self._back_up),
            Route("POST", "/backup/asset", self._back_up_asset),
            Route("GET", "/backups", self._list),
            Route("GET", "/backup/{backup}", self._snapshot),
            Route("POST", "/backup/{backup}/restore", self._restore),
            Route("POST", "/backup/{backup}/restore/streamed", self._restore_streamed),
            Route("GET", "/backup/{backup}/creation/status", self._creation_status),
            Route("POST", "/backup/{backup}/creation/cancel", self._cancel_creation),
            Route("GET", "/backup/{backup}/restoration/status", self._restoration_status),
            Route("POST", "/backup/{backup}/restoration/cancel", self._cancel_restoration),
        )

    def _back_up(self, request: Request) -> Response:
        body = request.json_object(may_be_empty=True)
        assets = body.get("iterable", [])
        if not isinstance(assets, list):
            raise Problem(400, "'iterable' must be a list of assets")
        return self._begin_backup(request, assets)

    def _back_up_asset(self, request: Request) -> Response:
        body = request.json_object(may_be_empty=True)
        return self._begin_backup(request, [body] if body else [])

    def _begin_backup(self, request: Request, assets: list[Any]) -> Response:
        destination = default_destination(self._settings)
        if destination is None:
            raise Refused(
                Reason.CANNOT, "no destination: set schedules.kanto.store or a target without mount"
            )
        choice = _assets_choice(assets, self._settings) if assets else everything(self._settings)
        with in_words(_WORDS):
            self._gate.command("backup", {"options": {**destination, **choice}}, request.peer.face)
        return no_content()

    def _list(self, request: Request) -> Response:
        made = self._gate.look("history", request.peer.face, self._made.all)
        return json_response(backups(self._listed(made)))

    def _listed(self, made: Made) -> Iterator[Model]:
        if made.running:
            yield running_backup(made.running, made.device_id)
        for each in fetchable(made.ended, self._settings):
            yield ended_backup(each.record, made.device_id)

    def _snapshot(self, request: Request) -> Response:
        made = self._found(request)
        if made.running:
            return json_response(running_backup(made.running, made.device_id))
        return json_response(ended_backup(self._fetchable(request, made).record, made.device_id))

    def _creation_status(self, request: Request) -> Response:
        made = self._found(request)
        if made.running:
            model = running_backup(made.running, made.device_id)
            return json_response(backup_status(model, running_job(made.running)))
        record = made.ended[0]
        return json_response(backup_status(ended_backup(record, made.device_id), recorded_job(record)))

    def _cancel_creation(self, request: Request) -> Response:
        running = self._found(request).running
        if running is None:
            raise Problem(404, "this backup is not in progress")
        self._cancel(request, running["correlationId"])
        return no_content()

    def _restore(self, request: Request) -> Response:
        model, _ = self._begin_restore(request)
        return json_response(model)

    def _restore_streamed(self, request: Request) -> Response:
        model, job_id = self._begin_restore(request)
        headers = {"Content-Type": JSON, "X-Accel-Buffering": "no"}  # see agent.faces.http.api.streams
        # Not `is_events`: the restore has begun, and for want of a place nobody may say that it has not. One
        # restore runs at a time, so that these streams are few.
        return Response(200, headers, self._progress(request, model, job_id))

    def _begin_restore(self, request: Request) -> tuple[Model, str]:
        """Begin to restore, under the backup's identifier; return the backup and the id of the job."""
        body, identifier = request.json_object(may_be_empty=True), request.parts["backup"]
        if body.get("id", identifier) != identifier:
            raise Problem(400, "the path and the body name different backups")
        made = self._found(request)
        if made.running:
            raise Refused(Reason.BUSY, "this backup is not complete yet")
        found, face = self._fetchable(request, made), request.peer.face
        source = self._gate.call(lambda: self._made.source_of(found.archive))
        options = options_to_restore(found, source, self._settings)
        job_id = self._gate.command("restore", {"correlationId": identifier, "options": options}, face)
        assert job_id
        return ended_backup(found.record, made.device_id), job_id

    def _progress(self, request: Request, backup: Model, job_id: str) -> Iterator[bytes]:
        """Yield one complete object after another until the restoration has ended."""
        log, told = self._api.events, b""
        batch: Batch | None = Batch((), log.newest, complete=True)
        while batch is not None:
            job = self._job(request, job_id)
            line = compact_json(streamed_progress(backup, job)) + b"\n"
            # A line that is sent again finds a client that is gone.
            if line != told or not batch.events:
                yield line
            if not job.runs:
                return
            told = line
            time.sleep(LOOK_AGAIN_S)
            batch = log.after(batch.newest, TELL_AGAIN_S)

    def _job(self, request: Request, job_id: str) -> JobView:
        """Return the job; when the engine does not tell, one whose stage is unknown."""
        try:
            return job_view(self._api, request, job_id)
        except (Problem, Refused):
            return JobView(job_id, "", "restore", Stage.UNKNOWN, None)

    def _restoration_status(self, request: Request) -> Response:
        made, job = self._found(request), self._restoration(request)
        if not made.ended:
            raise Problem(404, "no such backup")
        return json_response(backup_status(ended_backup(made.ended[0], made.device_id), job))

    def _cancel_restoration(self, request: Request) -> Response:
        request.json_object(may_be_empty=True)
        if not self._restoration(request).runs:
            raise Problem(404, "no restoration of this backup is in progress")
        self._cancel(request, request.parts["backup"])
        return no_content()

    def _restoration(self, request: Request) -> JobView:
        """Return the newest restore of this backup that came through these paths. Raises `Problem` 404."""
        try:
            return job_view(self._api, request, request.parts["backup"])
        except Refused as refused:
            if refused.reason is Reason.NOT_FOUND:
                raise Problem(404, "nobody has restored this backup") from None
            raise

    def _cancel(self, request: Request, correlation_id: str) -> None:
        self._gate.command("cancel", {"correlationId": correlation_id}, request.peer.face)

    def _found(self, request: Request) -> Made:
        """Return the one backup of the path, which runs or has ended. Raises `Problem` 404."""
        started = started_of(request.parts["backup"])
        if started is None:
            raise Problem(404, "no such backup: an identifier is <version>_<timestamp>")
        made = self._gate.look("describe", request.peer.face, lambda: self._made.begun_at(started))
        if made.running and made.running["startTime"] == started:
            return Made(made.device_id, made.running, ())
        if not made.ended:
            raise Problem(404, "no such backup: GET /backups lists what there is")
        return Made(made.device_id, None, made.rows)

    def _fetchable(self, request: Request, made: Made) -> Fetchable:
        """Return where the archive is. Raises `Problem` 404 for a backup that has none any more."""
        history = self._gate.look("history", request.peer.face, self._made.all)
        wanted = made.ended[0].id
        for each in fetchable(history.ended, self._settings):
            if each.record.id == wanted:
                return each
        raise Problem(404, "this backup failed, was removed, or is where the device cannot fetch it")


def _assets_choice(assets: list[Any], settings: Settings) -> WireOptions:
    """Return the options of a backup of these assets, which are data sets or paths. Raises `Problem` 400."""
    ids = [_id(asset) for asset in assets]
    data_sets = [each for each in ids if each in settings.data_sets]
    if data_sets and len(data_sets) < len(ids):
        raise Problem(400, "the assets of one backup are data sets, or paths, not both")
    return {"backup.dataTypes" if data_sets else "backup.paths": ids}


def _id(asset: Any) -> str:
    identifier = asset.get("id") if isinstance(asset, dict) else None
    if not isinstance(identifier, str) or not identifier:
        raise Problem(400, "an asset must have an 'id': the name of a data set, or a path")
    return identifier
