"""`edge-backup demo`: backups and restores from end to end, with nothing else installed.

An MQTT broker and an HTTP server run in this process. The agent runs as a process of its own, as on a
device. The exit status is 0 only if every file came back unchanged.
"""

import argparse
import json
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from agent.demo import sample, servers
from agent.demo.story import DEVICE_ID, STORE, Story, say, show
from agent.mqtt.hono import Identity
from agent.mqtt.link import Broker
from agent.send.backend import Backend

IDENTITY = Identity(DEVICE_ID, "demo-tenant")


def main(argv: list[str]) -> int:
    """Run the demo; return 0 if every file came back unchanged."""
    parser = argparse.ArgumentParser(prog="edge-backup demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the directory of the demo")
    parser.add_argument(
        "--keep-running", action="store_true", help="leave the agent running at the end, with its page"
    )
    parsed = parser.parse_args(argv)
    keep = parsed.keep
    started_s = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="edge-backup-demo-"))
    try:
        with servers.mqtt_broker() as broker, servers.http_store(_made(work / "remote")) as url:
            good = _tell(work, broker, url, keep_running=parsed.keep_running)
    except ImportError:
        sys.stderr.write("the demo needs the extra 'demo': pip install 'edge-backup-agent[demo]'\n")
        return 1
    finally:
        if keep:
            say(f"\nkept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - started_s
    verdict = "every file came back unchanged" if good else "FAILED: not every file came back unchanged"
    say(f"\n{verdict} ({seconds:.1f} s)")
    return 0 if good else 1


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _tell(work: Path, broker: tuple[str, int], url: str, *, keep_running: bool) -> bool:
    data = _made(work / "data")
    sample.make(data)
    here = Broker(*broker, tls=False, client_id="edge-backup-demo", clean_session=True)
    with (
        Backend(here, IDENTITY, answers_identity=True, listener=show) as backend,
        _agent(work, data, broker) as agent,
    ):
        good = Story(backend, work).tell(url)
        if keep_running:
            _show_page(work)
            with suppress(KeyboardInterrupt):  # the terminal sends it to the agent, too
                agent.wait()
        return good


def _show_page(work: Path) -> None:
    settings = json.loads((work / "config.json").read_text("utf-8"))
    say(f"\nThe agent runs until Ctrl-C. Its page: http://{settings['http.listen']}/")
    say(f"The token to sign in: {(work / 'token').read_text()}")
    say(f"On the command line: edge-backup status --config {work / 'config.json'}")


@contextmanager
def _agent(work: Path, data: Path, broker: tuple[str, int]) -> Iterator["subprocess.Popen[bytes]"]:
    """Run the agent as a process of its own, with a settings file as on a device."""
    config, token, credentials = work / "config.json", work / "token", work / "store.json"
    for secret in (token, credentials):
        secret.touch(0o600)
    token.write_text(secrets.token_urlsafe(18))
    credentials.write_text(json.dumps({"password": secrets.token_urlsafe(18)}))
    settings = {
        "dir": str(data),
        "storage": str(work / "storage"),
        "broker": f"tcp://{broker[0]}:{broker[1]}",
        "logFile": str(work / "agent.log"),
        "logLevel": "DEBUG",
        "http.listen": f"127.0.0.1:{servers.free_port()}",
        "http.tokenFile": str(token),
        "stores": {
            STORE: {
                "provider": "local",
                "credentials": str(credentials),
                "format": "repository",
                "prefix": "repository",
            }
        },
    }
    config.write_text(json.dumps(settings, indent=2), "utf-8")
    with (work / "agent.err").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(config)], stdout=errors, stderr=errors
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)
