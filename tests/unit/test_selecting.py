"""A command chooses among the settings' data; a choice that is impossible is refused with its reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.base.refusals import Reason, Refused
from agent.base.roots import Root
from agent.jobs.chosen_roots import ChosenRoots
from agent.jobs.requests.options import MAX_CHOSEN, Options, Selection, backup_selection, restore_selection
from agent.restore.choice import Choice
from agent.settings import Settings
from agent.settings.load import SettingsError, load
from tests.support.trees import Dir, File, Link, Spec, make_tree

TREE: Spec = {
    "net": Dir(),
    "net/eth0": File(),
    "net/out": Link(".."),
    "hosts": File(),
    "users": File(),
    "data": Dir(),
    "data/a": Dir(),
    "data/a/b": File(),
    "data/with, comma": File(),
    "data/link": Link("a"),
}


@pytest.fixture
def device(tmp_path: Path) -> Path:
    return make_tree(tmp_path.resolve() / "device", TREE)


def selecting(device: Path, mode: str = "scoped") -> ChosenRoots:
    sets = {
        "network": {"paths": [f"{device}/net", f"{device}/hosts"], "exclude": "*.bak"},
        "users": {"paths": f"{device}/users"},
        "own": {"paths": f"{device}/storage/backups"},
    }
    config = {"dir": f"{device}/data", "mode": mode, "storage": f"{device}/storage", "dataSets": sets}
    file = device / "config.json"
    file.write_text(json.dumps(config | {"exclude": "*.tmp", "unexportable": ["*.tpm", f"{device}/net/key"]}))
    return ChosenRoots(load({}, file, {}).settings)


def to_save(**options: Any) -> Selection:
    """Option `backup__paths` is `backup.paths`."""
    return backup_selection(options_of(options))


def to_restore(**options: Any) -> Selection:
    return restore_selection(options_of(options))


def options_of(options: dict[str, Any]) -> Options:
    texts = {key.replace("__", "."): value for key, value in options.items()}
    return Options(
        {key: value if isinstance(value, str) else json.dumps(value) for key, value in texts.items()}
    )


def refusal(act: Any, choose: Any, **options: Any) -> tuple[Reason, str]:
    with pytest.raises(Refused) as refused:
        act(choose(**options))
    return refused.value.reason, refused.value.message


def test_without_a_choice_all_of_the_directory_is_saved_and_restored(device: Path) -> None:
    whole = Root("", device / "data")
    (part,) = selecting(device).for_backup(to_save())
    assert part.root == whole
    assert selecting(device).for_restore(to_restore()) == Choice((whole,))


@pytest.mark.parametrize("mode", ["strict", "scoped", "lax"])
def test_data_sets_may_be_chosen_in_every_mode(device: Path, mode: str) -> None:
    parts = selecting(device, mode).for_backup(to_save(backup__dataTypes="users, network"))
    assert [part.root for part in parts] == [
        Root(f"network{device}", device, frozenset({"hosts"})),
        Root(f"network{device}/net", device / "net"),
        Root(f"users{device}", device, frozenset({"users"})),
    ]


def test_single_paths_narrow_the_data_sets(device: Path) -> None:
    chosen = {
        "backup__dataTypes": ["network", "users"],
        "backup__paths": [f"{device}/net/eth0", f"{device}/users"],
    }
    parts = selecting(device).for_backup(to_save(**chosen))
    assert [part.root for part in parts] == [
        Root(f"network{device}/net", device / "net", frozenset({"eth0"})),
        Root(f"users{device}", device, frozenset({"users"})),
    ]
    (all_of_it,) = selecting(device).for_backup(
        to_save(backup__dataTypes="users", backup__paths=str(device.parent))
    )
    assert all_of_it.root == Root(f"users{device}", device, frozenset({"users"}))


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        ("a/b", {"a/b"}),
        ("./a//b/,link", {"a/b", "link"}),
        (["with, comma", "{data}/a"], {"with, comma", "a"}),
        ("{data}/", None),
        ("a,.", None),
    ],
)
def test_single_paths_are_relative_to_the_directory_or_inside(
    device: Path, paths: Any, names: set[str] | None
) -> None:
    given = json.loads(json.dumps(paths).replace("{data}", f"{device}/data"))
    root = Root("", device / "data", None if names is None else frozenset(names))
    (part,) = selecting(device).for_backup(to_save(backup__paths=given))
    assert part.root == root
    choice = selecting(device).for_restore(to_restore(restore__paths=given))
    assert choice.roots == (root,)
    assert set(choice.wanted) >= (names or set())


def test_a_path_may_be_named_as_the_settings_name_the_directory(device: Path) -> None:
    """The resolved directory is not what people know."""
    (device / "known").symlink_to("data")
    named = to_save(backup__dir=f"{device}/known", backup__paths=f"{device}/known/a")
    (part,) = selecting(device).for_backup(named)
    assert part.root == Root("", device / "data", frozenset({"a"}))


def test_patterns_see_absolute_paths_in_data_sets_and_rules_do_so_everywhere(device: Path) -> None:
    network = selecting(device).for_backup(
        to_save(backup__dataTypes="network", backup__exclude=f"{device}/net/x")
    )[1]
    assert network.excluded
    assert network.unexportable
    assert [name for name in ("x", "y", "y.bak", "y.tmp") if network.excluded(name)] == [
        "x",
        "y.bak",
        "y.tmp",
    ]
    assert [name for name in ("key", "sub/key", "sub/x.tpm") if network.unexportable(name)] == [
        "key",
        "sub/x.tpm",
    ]
    (data,) = selecting(device).for_backup(to_save(backup__exclude="/x"))
    assert data.excluded
    assert [name for name in ("x", "a/x", "y.bak", "y.tmp") if data.excluded(name)] == ["x", "y.tmp"]


def test_a_restore_of_data_sets_goes_where_the_settings_say(device: Path) -> None:
    choice = selecting(device).for_restore(
        to_restore(restore__dataTypes="network", restore__paths=f"{device}/net/gone")
    )
    assert choice.roots == (Root(f"network{device}/net", device / "net", frozenset({"gone"})),)
    assert len(choice.data_sets) == 2
    assert choice.wanted == {f"network{device}/net/gone": f"{device}/net/gone"}


INVALID, REFUSED = Reason.INVALID, Reason.CANNOT
BAD: list[tuple[dict[str, object], str, str]] = [
    ({"dataTypes": "network,modem"}, INVALID, "there is no data set 'modem', only: network, own, users"),
    ({"dataTypes": "../network"}, INVALID, "there is no data set '../network'"),
    ({"dataTypes": '["network"'}, INVALID, "must be a JSON array of texts, or texts separated by commas"),
    ({"dataTypes": "[1]"}, INVALID, "must be a JSON array of texts"),
    ({"dataTypes": ["a", ["b"]]}, INVALID, "must be a JSON array of texts"),
    ({"dataTypes": [f"n{n}" for n in range(MAX_CHOSEN + 1)]}, INVALID, "names 101 things; at most 100"),
    ({"dataTypes": "own"}, REFUSED, "data set 'own': '{device}/storage/backups' is the agent's own storage"),
    ({"dataTypes": "users", "paths": "users"}, INVALID, "'users' must be absolute in a data set"),
    ({"dataTypes": "users", "paths": "{device}/hosts"}, INVALID, "is in none of the chosen data sets"),
    ({"dataTypes": "users", "paths": "{device}/../x"}, INVALID, "must not have '..'"),
    ({"paths": "a/../../hosts"}, INVALID, "must not have '..'"),
    ({"paths": "a\0"}, INVALID, "must not have '..' or NUL in it"),
    ({"paths": '["\\ud800"]'}, INVALID, "is no valid text"),
    ({"paths": "{device}/hosts"}, REFUSED, "'{device}/hosts' is not in '{device}/data'"),
    ({"paths": "{device}/data2"}, REFUSED, "is not in '{device}/data'"),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["backup", "restore"])
@pytest.mark.parametrize(("given", "code", "says"), BAD, ids=[str(case[0])[:50] for case in BAD])
def test_what_cannot_be_chosen_is_refused(
    device: Path, kind: str, given: dict[str, Any], code: str, says: str
) -> None:
    (device / "storage/backups").mkdir(parents=True)
    chosen = {
        f"{kind}__{key}": json.loads(json.dumps(value).replace("{device}", str(device)))
        for key, value in given.items()
    }
    act, choose = (
        (selecting(device).for_backup, to_save)
        if kind == "backup"
        else (selecting(device).for_restore, to_restore)
    )
    reason, message = refusal(act, choose, **chosen)
    assert reason is code
    assert says.replace("{device}", str(device)) in message


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"paths": "a/c"}, "'a/c' does not exist in '{device}/data'"),
        ({"paths": "a/b/c"}, "'a/b/c' is below something that is not a directory"),
        ({"paths": "link/b"}, "'link/b' is below something that is not a directory; links are not followed"),
        ({"paths": "x" * 300}, "cannot be looked at"),
        ({"dataTypes": "network", "paths": "{device}/net/eth1"}, "'{device}/net/eth1' does not exist in"),
        ({"dataTypes": "network", "paths": "{device}/net/out/users"}, "links are not followed"),
        ({"dataTypes": "network", "paths": "{device}/net/out/nobody"}, "links are not followed"),
    ],
)
def test_what_is_to_be_saved_has_to_be_there(device: Path, given: dict[str, str], says: str) -> None:
    chosen = {f"backup__{key}": value.replace("{device}", str(device)) for key, value in given.items()}
    reason, message = refusal(selecting(device).for_backup, to_save, **chosen)
    assert reason is Reason.CANNOT
    assert says.replace("{device}", str(device)) in message


def test_without_any_data_set_the_refusal_says_so() -> None:
    _, message = refusal(ChosenRoots(Settings()).for_backup, to_save, backup__dataTypes="x")
    assert message.endswith("there is no data set 'x', only: none is configured")


@given(st.text() | st.lists(st.text()).map(json.dumps))
def test_any_text_is_a_list_or_a_refusal(text: str) -> None:
    try:
        chosen = Options({"backup.paths": text}).chosen("backup.paths") or ()
    except Refused:
        return
    assert all(chosen)
    assert len(set(chosen)) == len(chosen)


@pytest.mark.parametrize(
    ("sets", "problem"),
    [
        ({"a": {"paths": []}}, "dataSets.a.paths: expected 1 to 100 absolute paths"),
        ({"a": {"paths": "etc"}}, "dataSets.a.paths: expected 1 to 100 absolute paths"),
        ({"a": {"paths": "/etc/../root"}}, "dataSets.a.paths: expected 1 to 100 absolute paths"),
        ({"a": {"exclude": "x"}}, "dataSets.a.paths: is missing"),
        ({"a": {"path": "/x"}}, "unknown key 'dataSets.a.path'"),
        ({"a b": {"paths": "/x"}}, "dataSets: the name 'a b' must be 1 to 64 letters"),
        ({"a": {"paths": "/x,/x/"}}, "dataSets.a.paths: '/x/' is in '/x/' of dataSets.a already; keep one"),
        ({"a": {"paths": "/x-,/x/y"}, "b": {"paths": "/x"}}, "'/x/y/' is in '/x/' of dataSets.b"),
        ({"a": {"paths": "/"}, "b": {"paths": "/x"}}, "dataSets.b.paths: '/x/' is in '/' of dataSets.a"),
    ],
)  # fmt: skip
def test_data_sets_that_make_no_sense_are_refused(tmp_path: Path, sets: Any, problem: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"dataSets": sets}))
    with pytest.raises(SettingsError) as refused:
        load({}, file, {})
    assert problem in str(refused.value)


def test_a_data_set_may_come_from_the_environment_or_the_command_line() -> None:
    settings = load(
        {"dataSets.b.paths": "/b/"}, None, {"EDGE_BACKUP_DATA_SETS__A__PATHS": "/a,/c//d"}
    ).settings
    assert {name: each.paths for name, each in settings.data_sets.items()} == {
        "a": ("/a", "/c/d"),
        "b": ("/b",),
    }
