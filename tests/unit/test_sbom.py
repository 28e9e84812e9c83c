"""Everything that is shipped is listed, and may be shipped under our licence."""

import re

from tests.support.sbom import OURS, ROOT, THIRD_PARTY, installed, sbom, third_party

ACCEPTED = {
    *("Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "EPL-2.0", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0"),
}


def test_the_list_of_licences_is_what_is_installed() -> None:
    assert THIRD_PARTY.read_text("utf-8") == third_party(), "run `make sbom`"


def test_every_licence_lets_the_agent_be_shipped_with_it() -> None:
    for component in sbom()["components"]:
        (choice,) = component["licenses"]
        choices = choice["expression"].split(" OR ")
        assert any(set(each.split(" AND ")) <= ACCEPTED for each in choices), component


def test_every_component_has_the_version_that_is_locked_with_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = dict(re.findall(r"^([\w.-]+)==(\S+).*\\\n    --hash=sha256:", lock, re.MULTILINE))
    versions = {component["name"]: component["version"] for component in sbom()["components"]}
    assert versions == {name: locked.get(name) for name in versions}


def test_every_component_is_needed_by_another_and_named_once() -> None:
    made = sbom()
    names = [component["name"] for component in made["components"]]
    needed = {name for entry in made["dependencies"] for name in entry["dependsOn"]}
    assert sorted(set(names)) == names
    assert needed == set(names)
    assert {entry["ref"] for entry in made["dependencies"]} == {OURS, *names} == set(installed("all"))
