"""Providers by name, and what finding one costs the thread that answers commands."""

import subprocess
import sys
from pathlib import Path

import pytest

import providers
from agent.faces.ditto.twin_messages import provider_names
from providers.errors import BadOptions

CHECK = """
import sys, providers
from providers.api import Limits
from providers.errors import BadOptions
from providers.prefix import opened
name = sys.argv[1]
try:
    opened(providers.factory(name), {}, Limits())
except BadOptions:
    pass
imported = {module.partition(".")[0] for module in sys.modules}
print(sorted(imported & {"boto3", "botocore", "requests", "urllib3"}), "azure.core" in sys.modules)
"""


@pytest.mark.parametrize("name", ["aws", "azure", "generic"])
def test_options_are_checked_without_what_takes_long_to_import(name: str) -> None:
    """The thread that checks a command is the one that answers all the others."""
    done = subprocess.run(
        [sys.executable, "-c", CHECK, name], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[] False\n"


def hide(package: str, monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    """Let nothing be found that is not imported yet, and the package not at all."""
    monkeypatch.setattr(sys, "path", [str(empty)])
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)


@pytest.mark.parametrize(("name", "hidden"), [("aws", "boto3"), ("azure", "azure")])
def test_a_provider_without_its_library_is_refused_when_it_is_named(
    name: str, hidden: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And not later, when a job has begun."""
    hide(hidden, monkeypatch, tmp_path)
    with pytest.raises(providers.MissingExtra, match=rf"edge-backup-agent\[{name}\]"):
        providers.factory(name)


@pytest.mark.parametrize(("name", "hidden"), [("aws", "boto3"), ("azure", "azure")])
def test_the_twin_is_told_of_no_provider_whose_library_is_missing(
    name: str, hidden: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A backend would offer it to people, and every command with it would fail."""
    assert provider_names() == ["aws", "azure", "generic", "local"]
    hide(hidden, monkeypatch, tmp_path)
    assert name not in provider_names()
    assert {"generic", "local"} <= set(provider_names())
    assert name in providers.names()  # a message about the settings names those that could be installed


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(BadOptions, match=r"aws, azure, .*generic, local"):
        providers.factory("ftp")
