"""The archives in a store: which there are, what is in one, and the content of one file."""

from collections.abc import Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

from pydantic import Field, SecretStr

from agent.faces.http.api.context import Api
from agent.faces.http.api.endpoint import Answer, Arguments, Endpoint, json_response
from agent.faces.http.api.handles import LASTS_S
from agent.faces.http.api.reading import Pieces
from agent.faces.http.message import Problem, Request, Response
from agent.jobs.queries.archives import OpenedStore

if TYPE_CHECKING:
    from agent.formats.base import Unlock

MOST_IN_A_PAGE = 500
MOST_DETAILED = 50
"""The most manifests that are read for a page."""
Limit = Annotated[int, Field(ge=1, le=MOST_IN_A_PAGE)]
HandleText = Annotated[str, Field(description="Of an encrypted archive, see `POST /archives/{store}/open`.")]


class ArchivesQuery(Arguments):
    store: str = Field(description="A store of the settings, or a target of the provider `local`.")
    device: str = Field("", description="The id of another device, to list the archives of that one.")
    details: bool = Field(False, description="True to read the manifests; there are fewer in a page then.")
    after: str = Field("", description="The name of an archive: the answer has those that are older.")
    limit: Limit = MOST_IN_A_PAGE


class ArchiveQuery(Arguments):
    handle: HandleText = ""


class FilesQuery(Arguments):
    path: str = Field("", description="A directory in the archive; empty for the top.")
    after: Annotated[int, Field(ge=0, description="`next` of the page before.")] = 0
    limit: Limit = MOST_IN_A_PAGE
    deep: bool = Field(False, description="True for everything below the directory, with checksums.")
    handle: HandleText = ""


class ContentQuery(Arguments):
    path: str = Field(description="A file in the archive, by its name in the page of files.")
    handle: HandleText = ""


class OpenOrder(Arguments):
    name: str = Field(description="The name of the archive.")
    passcode: SecretStr = SecretStr("")
    identity: SecretStr = Field(SecretStr(""), description="A private key of age.")


def list_archives(api: Api, request: Request, query: ArchivesQuery) -> Response:
    limit = min(query.limit, MOST_DETAILED) if query.details else query.limit

    def listable() -> OpenedStore:
        archives = api.engine.archives
        return archives.listable(archives.store(query.store), query.device)

    def open_store() -> OpenedStore:
        return api.gate.look("archives", request.peer.face, listable)

    def read(store: OpenedStore) -> list[dict[str, Any]]:
        return list(islice(store.values(query.after, details=query.details), limit + 1))

    found = api.reads.look(request, open_store, read)
    answer: dict[str, Any] = {"archives": found[:limit]}
    if len(found) > limit:
        answer["next"] = found[limit - 1]["name"]
    return json_response(answer)


def show_archive(api: Api, request: Request, query: ArchiveQuery) -> Response:
    def read(store: OpenedStore) -> Mapping[str, Any] | None:
        manifest = store.tree(unlock).manifest()
        return manifest.value() if manifest else None

    unlock = _unlock(api, request, query.handle)
    manifest = api.reads.look(request, partial(_readable, api, request), read)
    store, name = request.parts["store"], request.parts["name"]
    options = api.gate.call(partial(api.engine.archives.restore_options, store, name))
    return json_response({"name": name, "manifest": manifest, "restore": options})


def list_files(api: Api, request: Request, query: FilesQuery) -> Response:
    def read(store: OpenedStore) -> Mapping[str, Any]:
        from agent.faces.http.api.archive_tree import page_of

        tree = store.tree(unlock)
        return page_of(tree, query.path, query.after, query.limit, store.token, deep=query.deep)

    unlock = _unlock(api, request, query.handle)
    return json_response(api.reads.look(request, partial(_readable, api, request), read))


def content(api: Api, request: Request, query: ContentQuery) -> Response:
    """Answer with the bytes of one file. A browser may save them; it must not run or show them."""

    def read(store: OpenedStore, pieces: Pieces) -> None:
        from agent.faces.http.api.archive_tree import file_at

        tree = store.tree(unlock)
        item = file_at(tree, query.path, store.token)
        pieces.size_bytes = item.size
        tree.read(item, pieces.put)

    unlock = _unlock(api, request, query.handle)
    pieces = api.reads.download(request, partial(_readable, api, request, beside_sdk=False), read)
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(pieces.size_bytes),
        "Content-Disposition": _attachment(query.path),
        "Content-Security-Policy": "sandbox; default-src 'none'",
    }
    return Response(200, headers, pieces)


def open_archive(api: Api, request: Request, order: OpenOrder) -> Response:
    """Check the key of an encrypted archive, and keep it for a while."""
    from agent.jobs.formats import unlock_for
    from agent.jobs.requests.options import Key, Options
    from agent.jobs.requests.restore import read_key

    secrets = {Key.RESTORE_PASSCODE: order.passcode, Key.RESTORE_IDENTITY: order.identity}
    given = {str(key): secret.get_secret_value() for key, secret in secrets.items() if secret}
    encryption = api.settings.encryption
    key = read_key(Options(given), encryption.min_passcode)
    if key is None:
        raise Problem(400, "'passcode' or 'identity' is missing")
    unlock = unlock_for(key, encryption)
    open_store = partial(_readable, api, request, order.name, beside_sdk=False)
    api.reads.look(request, open_store, lambda store: store.tree(unlock).manifest())
    handle = api.gate.call(partial(api.handles.keep, request.parts["store"], order.name, unlock))
    return json_response({"handle": handle, "seconds": LASTS_S})


def _readable(api: Api, request: Request, name: str = "", *, beside_sdk: bool = True) -> OpenedStore:
    """Open the store and the archive of the path. Raises `Refused`."""
    store, name = request.parts["store"], name or request.parts["name"]

    def look() -> OpenedStore:
        if not beside_sdk:
            api.engine.refuse_beside_sdk()
        return api.engine.archives.readable(store, name)

    return api.gate.look("restore", request.peer.face, look)


def _unlock(api: Api, request: Request, handle: str) -> "Unlock":
    from agent.formats.base import Unlock

    return api.handles.unlock(handle, request.parts["store"], request.parts["name"]) if handle else Unlock()


def _attachment(path: str) -> str:
    """Return the header by which a browser saves the content (RFC 6266), under the last part of the name."""
    name = quote(path.rpartition("/")[2].encode("utf-8", "replace"), safe="")
    return f"attachment; filename*=UTF-8''{name}"


_PROBLEMS = (404, 409, 422, 502, 504)

ARCHIVE_ENDPOINTS: tuple[Endpoint[Any], ...] = (
    Endpoint(
        "GET", "/archives", "List the archives of a device in a store, newest first", ArchivesQuery,
        list_archives, (Answer(200, "A page; `next` is there when there are older ones.", "ArchivePage"),),
        problems=_PROBLEMS,
    ),
    Endpoint(
        "POST", "/archives/{store}/open", "Give the key of an encrypted archive", OpenOrder, open_archive,
        (Answer(200, "A handle for the requests about this archive, for ten minutes.", "Handle"),),
        problems=_PROBLEMS,
    ),
    Endpoint(
        "GET", "/archives/{store}/{name}", "Show the manifest of an archive", ArchiveQuery, show_archive,
        (Answer(200, "The manifest, and the options of a restore.", "ArchiveContent"),),
        problems=_PROBLEMS,
    ),
    Endpoint(
        "GET", "/archives/{store}/{name}/files", "List a directory of an archive", FilesQuery, list_files,
        (Answer(200, "A page; `next` is there when there are more entries.", "FilePage"),),
        problems=_PROBLEMS,
    ),
    Endpoint(
        "GET", "/archives/{store}/{name}/files/content", "Download a file of an archive", ContentQuery,
        content, (Answer(200, "The content, as an attachment.", media_type="application/octet-stream"),),
        problems=_PROBLEMS,
    ),
)  # fmt: skip
