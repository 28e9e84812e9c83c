"""Whatever the network does, the agent is there again, and everybody learns what happened meanwhile."""

import json
import secrets
import subprocess
from pathlib import Path

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from providers.testing.faultproxy import FaultProxy
from tests.contract import place_aws
from tests.faults.rig import rig
from tests.support.mosquitto import COMMANDS, forbid_commands
from tests.support.require import possible
from tests.support.waiting import wait_until

ALONE = ("unshare", "--mount", "--map-root-user")
PERIODIC = {"active": True, "period": "1s", "storage.maxStaged": 2, "deviceId": "edge:device"}


def test_states_of_a_long_time_offline_arrive_in_order_each_at_least_once(tmp_path: Path) -> None:
    """Through a kill in the middle, and a connection that is cut every few messages when it is back."""
    with rig(tmp_path, **PERIODIC) as there:
        there.backend.announced()
        there.broker.stop()
        there.agent.wait_for_log("disconnected")
        finished = there.agent.count_log("backup finished")
        wait_until(lambda: there.agent.count_log("backup finished") >= finished + 6, what="backups")
        there.agent.kill()
        there.agent.start()
        wait_until(lambda: there.agent.count_log("backup finished") >= finished + 12, what="more backups")
        told = [
            line["correlation_id"] for line in there.agent.log_lines() if line["event"] == "backup finished"
        ]
        there.proxy.reset_every["down"] = 400
        there.broker.start()
        there.backend.ended(told[-1])
        there.proxy.reset_every.clear()
        values = there.backend.values()
    for index, correlation_id in enumerate(told[:-1]):
        states = [value["state"] for value in values if value["correlationId"] == correlation_id]
        assert states == ["BACKUP_STARTED", "BACKUP_FINISHED"], f"{index} of {len(told)}: {states}"
    order = [value["correlationId"] for value in values if value["state"] == "BACKUP_FINISHED"]
    assert [one for one in order if one in told] == told


def test_a_connection_that_is_cut_again_and_again_does_not_keep_commands_away(tmp_path: Path) -> None:
    """Each connection brings at least something forward."""
    with rig(tmp_path) as there:
        there.backend.announced()
        there.proxy.reset_every["down"] = 1500
        for number in range(6):
            there.works(str(number))
        assert there.proxy.connections > 2, "nothing was cut"


def test_a_session_that_another_client_takes_is_not_fought_over(tmp_path: Path) -> None:
    """The other one comes back at once, every time. The agent waits longer and longer, and says why; it
    works again when the other one is gone."""
    with rig(tmp_path, clientId="mine") as there:
        there.backend.announced()
        thief = Client(CallbackAPIVersion.VERSION2, "mine")
        thief.reconnect_delay_set(1, 1)
        thief.connect("127.0.0.1", there.broker.port)
        thief.loop_start()
        try:
            soon = "connections end soon after being made: does another client use this client id?"
            wait_until(lambda: there.agent.count_log(soon) >= 2, what="the agent to say so", timeout_s=60)
        finally:
            thief.disconnect()
            thief.loop_stop()
        assert there.agent.count_log("connected") <= 6
        there.backend.messages.clear()
        there.backend.announced()
        there.works("alone again")


def test_a_name_that_does_not_resolve_for_a_while(tmp_path: Path) -> None:
    """Names are looked up anew for every attempt: for the broker, and for a place."""
    possible(subprocess.run([*ALONE, "true"], check=False).returncode == 0, "user namespaces")
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    mount = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    with rig(tmp_path) as there:
        port = there.proxy.address[1]
        there.agent.kill()
        there.agent.settings["broker"] = f"tcp://broker.test:{port}"
        there.agent.start(*ALONE, "sh", "-c", mount, "sh")
        there.agent.wait_for_log("broker cannot be reached, trying again")
        hosts.write_text("127.0.0.1 localhost broker.test\n")
        there.backend.announced()
        there.works("found")


def test_a_place_that_cuts_every_connection_gets_the_archive_all_the_same(tmp_path: Path) -> None:
    """Parts that arrived are not sent again."""
    with (
        place_aws.serve_rclone(tmp_path / "store") as make,
        rig(tmp_path / "device") as there,
    ):
        destination = make()
        with FaultProxy(("127.0.0.1", destination.server.port)) as proxy:
            options = {**destination.options("archive.zip"), "storage.provider": "aws"}
            options["aws.endpoint.url"] = f"http://127.0.0.1:{proxy.address[1]}"
            there.backend.announced()
            size_bytes = 40 << 20
            (there.agent.data / "blob.bin").write_bytes(secrets.token_bytes(size_bytes))
            proxy.reset_every["up"] = 18 << 20
            assert there.backend.run("backup", "X", options)["state"] == "BACKUP_FINISHED"
            assert proxy.passed["up"] > size_bytes
        assert destination.names() == ["archive.zip"]
        assert there.agent.count_log("transfer failed, trying again") >= 2


def test_a_refused_subscription_is_asked_for_again_until_it_is_granted(tmp_path: Path) -> None:
    """SUBACK 0x80: somebody has still to write an access rule. The agent says so, and needs no restart."""
    with rig(tmp_path) as there:
        there.backend.announced()
        there.agent.kill()
        there.broker.stop()
        forbid_commands(there.broker)
        there.broker.start()
        there.agent.start()
        refused = "subscription refused by the broker, trying again: check its access rules"
        there.agent.wait_for_log(refused)
        wait_until(there.backend.client.is_connected, what="the backend to be back")
        allow = {"command": "removeRoleACL", "rolename": "rules", **COMMANDS}
        there.backend.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": [allow]}))
        there.works("allowed")
