"""Files of the agent are its own: mode 0700 and 0600, whatever the umask, and whatever was there before."""

import stat
from pathlib import Path

import pytest

from tests.integration.conftest import SAMPLE
from tests.support.agent_process import AgentProcess
from tests.support.backend import Backend
from tests.support.mosquitto import mosquitto
from tests.support.trees import make_tree


def open_to_others(root: Path) -> dict[str, str]:
    """Everything in `root`, and itself, that others than the owner may use."""
    found = {str(path): path.lstat().st_mode for path in (root, *root.rglob("*"))}
    return {name: stat.filemode(mode) for name, mode in found.items() if mode & 0o077}


@pytest.mark.parametrize("umask", ["0", "077"])
def test_storage_is_private_whatever_the_umask(tmp_path: Path, umask: str) -> None:
    """Also one that Kanto's agent, or an administrator, made with other modes."""
    with mosquitto(tmp_path / "mosquitto") as broker, Backend(broker.port) as backend:
        device = AgentProcess(tmp_path / "device", broker.port)
        make_tree(device.data, SAMPLE)
        (device.storage / "backups").mkdir(parents=True, mode=0o755)
        device.storage.chmod(0o777)
        (device.storage / "journal.db").touch()
        (device.storage / "journal.db").chmod(0o644)
        device.start("sh", "-c", f'umask {umask} && exec "$@"', "sh")
        try:
            backend.announced()
            backend.run("backup", "X", {})
            backend.run("backup", "Y", {"storage.provider": "local"})
            backend.run("restore", "Z", {"storage.provider": "local"})
            assert (device.storage / "journal.db-wal").exists()
            assert list((device.storage / "backups").glob("*.zip"))
            assert open_to_others(device.storage) == {}
        finally:
            device.kill()
