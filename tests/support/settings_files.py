"""Settings in a file, and what is wrong with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent.settings.load import SettingsError, load

SECRET = "very-secret"


def settings_file(directory: Path, **settings: Any) -> Path:
    file = directory / "config.json"
    file.write_text(json.dumps(settings))
    return file


def private_file(file: Path, text: str) -> str:
    """Write a file that only its owner can read, as the agent wants it for secrets; return its path."""
    file.touch(0o600)
    file.write_text(text)
    return str(file)


def problems_of(directory: Path, settings: dict[str, Any]) -> str:
    """Return what `load` says of wrong settings, which never repeats `SECRET`."""
    with pytest.raises(SettingsError) as caught:
        load({}, settings_file(directory, **settings), {})
    problems = str(caught.value)
    assert SECRET not in problems
    return problems
