"""The examples of docs/http.md, executed against an agent as they stand there."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote

from agent.faces.http.api.table import ENDPOINTS
from agent.faces.http.message import Response
from agent.faces.http.routes import Route
from tests.integration.conftest import SAMPLE
from tests.support.api_client import ApiClient
from tests.support.local_agent import LocalAgent
from tests.support.trees import File

from .test_http_api import run

DOCUMENT = Path(__file__).parents[2] / "docs" / "http.md"
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
ENDLESS = "$API/events\n"
"""The end of the one command that does not end by itself."""
PASSCODE = "correct horse battery"
PRELUDE = """
set -eu
curl() { command curl --silent --show-error --fail --max-time 60 "$@"; echo; }
"""


def commands() -> list[str]:
    """Each command of the examples on a line of its own."""
    joined = "".join(BLOCKS).replace("\\\n", " ")
    return [" ".join(command.split()) for command in re.split(r"^(?=curl )", joined, flags=re.MULTILINE)[1:]]


def test_every_example_works(agent: LocalAgent, tmp_path: Path) -> None:
    api = ApiClient(agent.storage / "http.sock")
    sealed = {"local.name": "private.zip.age", "backup.passcode": PASSCODE, "storage.provider": "local"}
    assert run(api, "backup", sealed)["state"] == "FINISHED"
    (tmp_path / "open.json").write_text(f'{{"name": "private.zip.age", "passcode": "{PASSCODE}"}}')
    variables, *blocks = BLOCKS
    variables = re.sub("SOCKET=.*", f"SOCKET='{agent.storage}/http.sock'", variables)
    ending = [block for block in blocks if not block.endswith(ENDLESS)]
    done = subprocess.run(
        ["bash", "-c", PRELUDE + variables + "".join(ending)],
        cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr
    content = SAMPLE["config/app.json"]
    assert isinstance(content, File)
    assert (tmp_path / "app.json").read_bytes() == content.content
    (endless,) = (block for block in blocks if block not in ending)
    with subprocess.Popen(
        ["bash", "-c", f"{variables}\nexec {endless}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as following:
        assert following.stdout
        assert following.stdout.readline().startswith(b"id: ")
        following.kill()


def test_every_endpoint_has_an_example() -> None:
    shown = set()
    for command in commands():
        path = re.search(r"\$API(/[^\s\"?]*)", command)
        assert path, command
        method = "POST" if "--json" in command or "-X POST" in command else "GET"
        shown.add((method, unquote(path[1])))
    for endpoint in ENDPOINTS:
        route = Route(endpoint.method, endpoint.path, lambda _: Response())
        matching = [
            path for method, path in shown if method == route.method and route.pattern.fullmatch(path)
        ]
        assert matching, f"{endpoint.method} {endpoint.path}"
