"""The access mode decides on resolved paths, and every refusal is a sentence that names path and reason."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.base.errors import AccessForbidden
from agent.base.identity import below
from agent.save.access import AccessMode, refuse_inside, resolve
from tests.support.archives import found_in
from tests.support.require import require


@pytest.fixture
def scope(tmp_path: Path) -> Path:
    """`app/` with `app/data/` and a file, `other/` beside it."""
    for name in ("app", "app/data", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "app/file").write_text("x")
    return tmp_path.resolve() / "app"


def refusal(requested: str | None, configured: str | None, mode: AccessMode, must_exist: bool = True) -> str:
    with pytest.raises(AccessForbidden) as refused:
        resolve(requested, configured, mode, must_exist)
    return str(refused.value)


@pytest.mark.parametrize("mode", ["strict", "scoped", "lax"])
@pytest.mark.parametrize("requested", [None, ""])
def test_without_a_request_the_configured_directory_is_taken(
    scope: Path, mode: AccessMode, requested: str | None
) -> None:
    assert resolve(requested, str(scope), mode, True) == scope


@pytest.mark.parametrize("mode", ["strict", "scoped", "lax"])
def test_neither_request_nor_setting_says_what_to_give(mode: AccessMode) -> None:
    assert refusal(None, None, mode) == "no directory: give option 'backup.dir' or set 'dir'"
    assert refusal("", "", mode) == "no directory: give option 'backup.dir' or set 'dir'"


def test_strict_takes_only_the_configured_directory_whatever_its_spelling(scope: Path) -> None:
    assert resolve(f"{scope}/data/../", str(scope), "strict", True) == scope
    assert refusal(f"{scope}/data", str(scope), "strict") == (
        f"backup.dir '{scope}/data' is not '{scope}', the only directory allowed (mode: strict)"
    )


def test_scoped_takes_what_is_below_and_refuses_what_is_beside(scope: Path) -> None:
    assert resolve(f"{scope}/data", str(scope), "scoped", True) == scope / "data"
    assert refusal("/etc", str(scope), "scoped") == f"backup.dir '/etc' is outside '{scope}' (mode: scoped)"
    assert "is outside" in refusal(f"{scope}/../other", str(scope), "scoped")
    assert "is outside" in refusal(f"{scope}x", str(scope), "scoped", must_exist=False)


def test_a_link_inside_the_scope_that_points_outside_is_outside(scope: Path) -> None:
    (scope / "link").symlink_to("../other")
    (scope / "dangling").symlink_to("../other/missing")
    assert "is outside" in refusal(f"{scope}/link", str(scope), "scoped")
    assert "is outside" in refusal(f"{scope}/dangling/sub", str(scope), "scoped", must_exist=False)


def test_a_link_that_points_back_inside_is_inside_and_comes_out_resolved(scope: Path) -> None:
    (scope / "link").symlink_to("data")
    assert resolve(f"{scope}/link", str(scope), "scoped", True) == scope / "data"


def test_the_configured_directory_may_itself_be_a_link(scope: Path) -> None:
    configured = scope.parent / "current"
    configured.symlink_to("app")
    assert resolve(f"{configured}/data", str(configured), "scoped", True) == scope / "data"
    assert resolve(str(scope), str(configured), "strict", True) == scope


def test_lax_takes_any_directory_with_or_without_a_setting(scope: Path) -> None:
    assert resolve(str(scope.parent / "other"), str(scope), "lax", True) == scope.parent / "other"
    assert resolve(str(scope), None, "lax", True) == scope


@pytest.mark.parametrize("mode", ["strict", "scoped"])
def test_a_request_without_a_setting_is_refused_unless_lax(scope: Path, mode: AccessMode) -> None:
    assert refusal(str(scope), None, mode) == (
        f"backup.dir '{scope}' is not allowed: the setting 'dir' is empty (mode: {mode})"
    )


@pytest.mark.parametrize("must_exist", [True, False])
def test_a_file_is_no_directory_for_backup_and_restore(scope: Path, must_exist: bool) -> None:
    assert refusal(f"{scope}/file", str(scope), "scoped", must_exist) == (
        f"backup.dir '{scope}/file' is not a directory"
    )
    assert refusal(f"{scope}/file/sub", str(scope), "scoped", must_exist) == (
        f"backup.dir '{scope}/file/sub' is below something that is not a directory"
    )


def test_a_missing_directory_is_refused_for_a_backup_only(scope: Path) -> None:
    missing = f"{scope}/new/deep"
    assert refusal(missing, str(scope), "scoped") == f"backup.dir '{missing}' does not exist"
    assert refusal(None, missing, "scoped") == f"dir '{missing}' does not exist"
    assert resolve(missing, str(scope), "scoped", False) == Path(missing)
    assert resolve(None, missing, "strict", False) == Path(missing)


def test_a_missing_part_cannot_hide_a_way_out(scope: Path) -> None:
    assert "is outside" in refusal(f"{scope}/missing/../../other", str(scope), "scoped", must_exist=False)


def test_whether_something_exists_outside_the_scope_is_not_told(scope: Path) -> None:
    for outside in ("/etc", "/surely/missing", "/etc/passwd"):
        assert (
            refusal(outside, str(scope), "scoped")
            == f"backup.dir '{outside}' is outside '{scope}' (mode: scoped)"
        )


@pytest.mark.parametrize(
    ("requested", "reason"),
    [
        ("data", "is relative; an absolute path is needed"),
        ("../etc", "is relative; an absolute path is needed"),
        ("/a\0b", "has a NUL byte in it, which no file name can"),
        ("/\ud800", "is no valid text"),
        ("/" + "x" * 256, "is too long: 4095 bytes, 255 between slashes, are possible"),
        ("/" + "x/" * 2100, "is too long: 4095 bytes, 255 between slashes, are possible"),
    ],
)
@pytest.mark.parametrize("must_exist", [True, False])
def test_what_cannot_be_a_path_has_a_sentence_of_its_own(
    requested: str, reason: str, must_exist: bool
) -> None:
    message = refusal(requested, "/", "scoped", must_exist)
    assert message.startswith("backup.dir '")
    assert message.endswith(reason)
    assert message.isprintable()


@pytest.mark.parametrize("mode", ["strict", "scoped", "lax"])
def test_a_path_that_is_too_long_is_refused_before_its_parts_are_looked_at(
    scope: Path, mode: AccessMode
) -> None:
    """120,000 parts kept the agent busy for seconds, and were told as a file server that does not answer."""
    assert "is too long" in refusal("/" + "a/" * 2100, str(scope), mode)


def test_loops_and_endless_chains_of_links_are_refused(scope: Path) -> None:
    (scope / "a").symlink_to("b")
    (scope / "b").symlink_to("a")
    (scope / "link0").symlink_to("data")
    for number in range(1, 1200):
        (scope / f"link{number}").symlink_to(f"link{number - 1}")
    for name in ("a", "a/sub", "link1199"):
        assert "leads through a loop" in refusal(f"{scope}/{name}", str(scope), "scoped", must_exist=False)


def test_a_very_deep_missing_directory_is_decided_too(scope: Path) -> None:
    deep = f"{scope}/" + "d/" * 1500
    assert resolve(deep, str(scope), "scoped", False) == Path(deep)


@given(path=st.text(st.sampled_from("ab./\0\\\ud800é"), max_size=12))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_refused_or_gives_a_directory_inside_the_scope(scope: Path, path: str) -> None:
    try:
        resolved = resolve(f"{scope}/{path}", str(scope), "scoped", must_exist=False)
    except AccessForbidden:
        return
    assert resolved == scope or scope in resolved.parents
    assert os.path.realpath(resolved) == str(resolved)


@pytest.mark.parametrize("mode", ["strict", "scoped"])
def test_of_what_is_outside_the_scope_nothing_is_told(scope: Path, mode: AccessMode) -> None:
    """A sender of commands must not learn what exists: a file, a link, a loop, nothing."""
    outside = scope.parent / "outside"
    (outside / "there").mkdir(parents=True)
    (outside / "loop").symlink_to("loop")
    (outside / "link").symlink_to("there")
    back = os.path.relpath(scope, outside / "there")
    asked = [
        f"{outside}/there", f"{outside}/missing", f"{outside}/loop", f"{outside}/loop/x", f"{outside}/link",
        f"{outside}/there/{back}", f"{outside}/missing/{back}", f"{outside}/link/{back}",
        f"{scope}/../outside/there/{back}", f"{scope}/../outside/missing/{back}",
        "/proc/1/exe", "/proc/1/root",
        f"/{'x' * 300}", f"{outside}/{'x' * 300}",
    ]  # fmt: skip
    told = {refusal(path, str(scope), mode).partition("' is ")[2] for path in asked}
    assert len(told) == 1, told


@pytest.fixture
def storage_by_another_name(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The agent's storage, and the directory that holds it under the name of a bind mount."""
    require(os.geteuid() == 0, "root, to mount")
    (tmp_path / "lib/storage/backups").mkdir(parents=True)
    (tmp_path / "alias").mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "lib", tmp_path / "alias"], check=True)
    yield tmp_path / "lib/storage", tmp_path / "alias"
    subprocess.run(["umount", "-l", tmp_path / "alias"], check=True)


def test_the_storage_is_known_by_any_name(storage_by_another_name: tuple[Path, Path]) -> None:
    """Its path says nothing: the journal was archived through a bind mount, and a restore wrote into it."""
    storage, alias = storage_by_another_name
    for inside in ("storage", "storage/backups", "storage/new/deeper"):
        with pytest.raises(AccessForbidden, match="is the agent's own storage"):
            refuse_inside(alias / inside, storage)
    refuse_inside(alias, storage)
    found, report = found_in(alias, own=(storage,))
    assert (list(found), report.excluded) == ([], 1)
    assert below(alias, (storage,)) == ["storage"]


def test_a_part_of_the_storage_is_known_by_any_name(storage_by_another_name: tuple[Path, Path]) -> None:
    storage, alias = storage_by_another_name
    subprocess.run(["umount", alias], check=True)
    subprocess.run(["mount", "--bind", storage / "backups", alias], check=True)
    with pytest.raises(AccessForbidden, match="is the agent's own storage"):
        refuse_inside(alias / "new", storage)
