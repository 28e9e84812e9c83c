"""The documents say what the code does: examples are executed, tables are compared with what they list."""

import ast
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.base.errors import JobError
from agent.base.operations import OPERATIONS, Face, offered
from agent.jobs import task
from agent.jobs.requests.options import Key
from agent.jobs.requests.raw import read_raw
from agent.mqtt import envelope as ditto
from agent.mqtt.hono import Identity, parse_identity
from agent.settings import load as settings_load
from agent.settings.keys import KEYS
from providers import aws, azure, https, local
from providers.errors import StorageError
from tests.support import ditto_schema

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")])
WIRE = (ROOT / "docs" / "wire.md").read_text("utf-8")
KANTO = (ROOT / "docs" / "kanto.md").read_text("utf-8")
SECURITY = (ROOT / "docs" / "security.md").read_text("utf-8")
DEVICE = Identity("edge:device", "tenant")
_BLOCK = re.compile(r"^```json\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PATH = re.compile(r"`((?:agent|providers|tests|docs|systemd|config|examples)/[\w./-]+)`")
_TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)")


def examples() -> list[Any]:
    return [
        pytest.param(block, id=f"{document.relative_to(ROOT)}-{number}")
        for document in DOCUMENTS
        for number, block in enumerate(_BLOCK.findall(document.read_text("utf-8")), 1)
    ]


def table_of(document: str, table: str) -> str:
    """The rows between the two marks of `table`."""
    rows = document.partition(f"<!-- {table}: begin -->")[2].partition(f"<!-- {table}: end -->")[0]
    assert rows, f"no table {table!r}"
    return rows


def first_column(document: str, table: str) -> set[str]:
    """Return the words in backquotes at the beginning of the rows of `table`."""
    return set(re.findall(r"^\| `([^`]+)` \|", table_of(document, table), re.MULTILINE))


@pytest.mark.parametrize("block", examples())
def test_every_json_example_is_what_the_agent_takes_or_says(block: str, tmp_path: Path) -> None:
    """A message is read or checked like a real one, the identity parsed, all else is a configuration file."""
    example = json.loads(block)
    if "/inbox/" in str(example.get("path")):
        check_command(block)
    elif "path" in example:
        ditto_schema.check(topic_of(example), example)
        assert block == json.dumps(example, separators=(",", ":"), ensure_ascii=False) + "\n"
    elif "policyId" in example:
        assert parse_identity(block.encode()) == DEVICE
    else:
        file = tmp_path / "config.json"
        file.write_text(block, "utf-8")
        assert [
            notice for notice in settings_load.load({}, file, {}).notices if notice.level == "error"
        ] == []


def check_command(block: str) -> None:
    envelope = ditto.parse(block.encode())
    operation = envelope.inbox_subject(DEVICE.thing, "BackupAndRestore")
    assert operation in offered(Face.MQTT)
    known = re.compile("|".join(re.sub(r"<\w+>", ".+", re.escape(key)) for key in option_keys()))
    for key in read_raw(operation, envelope.value).options.texts:
        assert known.fullmatch(key), key


def build_site(destination: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(destination)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def topic_of(message: dict[str, Any]) -> str:
    if "status" not in message:
        return "e"
    return f"command//{DEVICE.device_id}/res//{message['path'].rpartition('/')[2]}"


def option_keys() -> set[str]:
    ours = {
        *Key,
        "history.before",
        "archives.after",
        "archives.details",
        "storage.provider",
        "options.<name>",
        "info.<name>",
    }
    prefixes = {local.Local.prefix_option, aws.S3.prefix_option, azure.AzureBlob.prefix_option}
    theirs = {*prefixes, *https.OPTIONS, "https.header.<Name>", *local.OPTIONS, *aws.OPTIONS, *azure.OPTIONS}
    return ours | theirs


def status_codes() -> set[str]:
    """The `code` of every error class of ours, and what the agent itself ends things with."""
    codes = {task.INTERRUPTED, task.DEADLINE_EXCEEDED, "internal-error", "dropped"}
    classes: list[type[Exception]] = [StorageError, JobError]
    while classes:
        error = classes.pop()
        classes += error.__subclasses__()
        if error.__module__.startswith(("agent.", "providers.")):
            codes.add(vars(error).get("code", ""))
    return codes - {""}


def test_the_table_of_operations_is_complete() -> None:
    """Each with the members of its value."""
    members = {name for operation in OPERATIONS.values() for name in operation.fields}
    documented = {
        name: set(re.findall(r"`(\w+)`", value)) & members
        for name, value in re.findall(r"^\| `(\w+)` \| (.*?) ?\|", table_of(WIRE, "operations"), re.MULTILINE)
    }
    assert documented == {name: set(OPERATIONS[name].fields) for name in offered(Face.MQTT)}


def test_the_table_of_options_is_complete() -> None:
    assert first_column(WIRE, "options") == option_keys()


def test_the_table_of_status_codes_is_complete() -> None:
    assert first_column(WIRE, "codes") == status_codes()


def test_the_map_of_the_house_has_every_package_and_every_module_at_its_top() -> None:
    """Inside a package names say what they are; the table below the map leads to behaviours."""
    house = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("```")[1]
    words = set(re.findall(r"\w+", house))
    top = [path.stem for path in (ROOT / "agent").iterdir() if path.suffix == ".py" or path.is_dir()]
    assert {name for name in top if not name.startswith("__") and name != "py"} - words == set()


def test_the_threat_model_says_for_each_attacker_what_they_can_do_and_names_its_tests() -> None:
    model = SECURITY.partition("## Threat model\n")[2].partition("\n## ")[0]
    actors = re.split("^### ", model, flags=re.MULTILINE)[1:]
    assert len(actors) >= 6
    for actor in actors:
        rows = re.findall(r"^\| (\w+) \| .+ \| (.+) \|$", actor, re.MULTILINE)[1:]
        assert [to for to, _ in rows] == ["read", "write", "delay", "exhaust"], actor.splitlines()[0]
        assert all("::" in tests for _, tests in rows), actor.splitlines()[0]


def test_every_ability_says_how_it_is_done_and_names_its_tests() -> None:
    abilities = (ROOT / "docs" / "abilities.md").read_text("utf-8")
    documents = re.split("^## ", abilities, flags=re.MULTILINE)[1:]
    assert len(documents) == 4
    for document in documents:
        lines = [line for line in document.splitlines() if line.startswith("|")][2:]
        assert len(lines) >= 10, document.splitlines()[0]
        columns = 2 if document.startswith("A wallet's") else 3  # that one is a library, not an API
        for line in lines:
            *cells, tests = line.strip("| ").split(" | ")
            assert len(cells) == columns, line
            assert all(cell.strip() for cell in cells), line
            assert all(_TEST.fullmatch(test) for test in tests.split(", ")), line


def test_every_test_that_a_document_names_exists() -> None:
    """Written as `test_file.py::test_name`, of a file in the tests or in the suite that is shipped."""
    for document in DOCUMENTS:
        for file, name in _TEST.findall(document.read_text("utf-8")):
            found = [*(ROOT / "tests").rglob(file), *(ROOT / "providers" / "testing").rglob(file)]
            texts = [path.read_text("utf-8") for path in found]
            assert any(f"\ndef {name}(" in text for text in texts), f"{document.name}: {file}::{name}"


def test_the_migration_page_has_every_property_of_kanto() -> None:
    assert first_column(KANTO, "properties") == {key.name for key in KEYS if key.kanto}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_row_of_a_table_has_the_columns_of_its_head(document: Path) -> None:
    """A site drops cells that are too many, and shows empty ones for those that are missing."""
    columns = 0
    for line in document.read_text("utf-8").splitlines():
        cells = len(re.findall(r"(?<!\\)\|", re.sub(r"`[^`]*`", "", line))) if line.startswith("|") else 0
        assert not columns or cells in (0, columns), line
        columns = cells


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = _LINK.findall(document.read_text("utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_document_names_exist(document: Path) -> None:
    """Names in backquotes that look like a path, into the repository or from beside the document."""
    named = _PATH.findall(document.read_text("utf-8"))
    places = (ROOT, document.parent)
    assert [name for name in named if not any((destination / name).exists() for destination in places)] == []


def test_the_list_of_decisions_is_complete() -> None:
    """The site's navigation leads to the list alone, so a decision that is not in it is never read."""
    decisions = ROOT / "docs" / "decisions"
    listed = _LINK.findall((decisions / "README.md").read_text("utf-8"))
    assert listed == sorted(path.name for path in decisions.glob("0*.md"))


def test_a_reader_of_the_site_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    """People read it on a network without a way out; `make docs` itself checks links and navigation."""
    site = tmp_path / "site"
    build_site(site)
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    loaded = re.compile(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=[\"']?(?:https?:)?//[^\"' >]+")
    assert [found for page in pages for found in loaded.findall(page.read_text("utf-8"))] == []


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    """People search for what they see, so a message that was changed is changed there, too."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    shown = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    said = [text.replace("`", "") for text in texts_of_the_code()]
    assert len(shown) > 40
    assert [message for message in shown if not any(message in text for text in said)] == []


def texts_of_the_code() -> Iterator[str]:
    """Every text in the source, with `…` for what is filled in, and what the kernel says."""
    yield os.strerror(errno.EROFS)
    for path in (*(ROOT / "agent").rglob("*.py"), *(ROOT / "providers").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
