"""`edge-backup demo`: the main job from end to end, with nothing installed.

A broker and a place behind HTTP run in this process, the agent runs as a process of its own, exactly as
on a device. The exit status is 0 only when every file came back as it was.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.demo import sample, servers
from agent.messaging.hono import Identity
from agent.messaging.link import Broker
from agent.northbound import Backend, Heard

IDENTITY = Identity("demo:device", "demo-tenant")


def main(argv: list[str]) -> int:
    """Tell the story; 0 when everything matched."""
    parser = argparse.ArgumentParser(prog="edge-backup demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="keep the directory of the demo")
    keep = parser.parse_args(argv).keep
    started_s = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix="edge-backup-demo-"))
    try:
        with servers.mqtt_broker() as broker, servers.http_store(_made(work / "far-away")) as url:
            good = _tell(work, broker, url)
    except ImportError:
        sys.stderr.write("the demo needs its extra: pip install 'edge-backup-agent[demo]'\n")
        return 1
    finally:
        if keep:
            say(f"\nkept: {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)
    seconds = time.monotonic() - started_s
    verdict = "everything came back as it was" if good else "NOT everything came back as it was"
    say(f"\n{verdict} — {seconds:.1f} s")
    return 0 if good else 1


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory


def _tell(work: Path, broker: tuple[str, int], url: str) -> bool:
    data = _made(work / "data")
    sample.make(data)
    before = sample.facts(data)
    say(f"A device keeps {len(before)} files, directories and links in {data}")
    here = Broker(*broker, tls=False, client_id="edge-backup-demo", clean_session=True)
    with (
        Backend(here, IDENTITY, answers_identity=True, listener=_show) as backend,
        _agent(work, data, broker),
    ):
        say("\nThe agent starts, asks who it is, and announces itself to the twin")
        backend.wait_for_announcement()
        local = {"storage.provider": "local"}
        https = {"https.url": f"{url}/device-backup.zip?signature=not-shown"}
        good = _round(
            backend, work, before, place="a local directory", correlation_id="demo-local", options=local
        )
        return good and _round(
            backend, work, before, place="a place behind HTTP", correlation_id="demo-http", options=https
        )


def _round(
    backend: Backend,
    work: Path,
    before: dict[str, sample.Fact],
    *,
    place: str,
    correlation_id: str,
    options: dict[str, str],
) -> bool:
    """Back up to a place, damage, restore from there, compare."""
    data = work / "data"
    say(f"\nBackup to {place}")
    saved = backend.run("backup", correlation_id, options)
    say(f"  {_took(saved)}; {_archives(work)}")
    say("\nSomething goes wrong on the device")
    for line in sample.damage(data):
        say(f"  ✗ {line}")
    say(f"\nRestore from {place}")
    restored = backend.run("restore", f"{correlation_id}-back", options)
    say(f"  {_took(restored)}")
    differences = sample.differences(before, sample.facts(data))
    for line in differences:
        say(f"  ✗ {line}")
    if not differences:
        say(f"  ✓ all {len(before)} are as they were: content, mode, time")
    return not differences


def _archives(work: Path) -> str:
    files = [path for path in (*work.glob("storage/archives/*"), *work.glob("far-away/*")) if path.is_file()]
    return ", ".join(f"{path.name} {path.stat().st_size:,} bytes" for path in files)


def _took(operation: dict[str, Any]) -> str:
    if "state" not in operation:
        return f"refused: {operation['message']}"
    if operation["statusCode"]:
        return f"{operation['state']}: {operation['statusCode']}, {operation['message']}"
    return f"{operation['state']}, {operation['startTime'][11:23]} to {operation['endTime'][11:23]} UTC"


def _show(heard: Heard) -> None:
    """One line for a message of the agent."""
    message, operation = heard.message, heard.last_operation
    if operation is not None:
        what = (
            f"lastOperation = {operation['state']} {operation['progress']} %  ({operation['correlationId']})"
        )
    elif "status" in message:
        what = f"answer {message['status']}  {json.dumps(message.get('value', {}).get('message', ''))}"
    else:
        what = f"{message['path']}  {json.dumps(message['value'])}"
    say(f"  ← {heard.topic:34} {what[:120]}{'…' if len(what) > 120 else ''}")


@contextmanager
def _agent(work: Path, data: Path, broker: tuple[str, int]) -> Iterator[None]:
    """The agent as a process of its own, with a settings file as a device would have it."""
    config = work / "config.json"
    settings = {
        "dir": str(data),
        "storage": str(work / "storage"),
        "broker": f"tcp://{broker[0]}:{broker[1]}",
        "logFile": str(work / "agent.log"),
        "logLevel": "DEBUG",
    }
    config.write_text(json.dumps(settings, indent=2), "utf-8")
    with (work / "agent.err").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--config", str(config)], stdout=errors, stderr=errors
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)
