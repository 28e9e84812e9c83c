"""Assets of document 003: the id of one is the name of a data set, or a path on the device."""

from typing import Any

from agent.faces.http.documents.destinations import Options
from agent.faces.http.message import Problem
from agent.settings import Settings


def assets_choice(assets: list[Any], settings: Settings) -> Options:
    """Return the options of a backup of these assets. Raises `Problem` 400."""
    ids = [_id(asset) for asset in assets]
    data_sets = [each for each in ids if each in settings.data_sets]
    if data_sets and len(data_sets) < len(ids):
        raise Problem(400, "the assets of one backup are data sets, or paths, not both")
    return {"backup.dataTypes" if data_sets else "backup.paths": ids}


def no_choice(settings: Settings) -> Options:
    """Return the options of a backup that chooses nothing: the directory, or all data sets without one."""
    if settings.dir or settings.backup_cmd or not settings.data_sets:
        return {}
    return {"backup.dataTypes": sorted(settings.data_sets)}


def _id(asset: Any) -> str:
    identifier = asset.get("id") if isinstance(asset, dict) else None
    if not isinstance(identifier, str) or not identifier:
        raise Problem(400, "an asset must have an 'id': the name of a data set, or a path")
    return identifier
