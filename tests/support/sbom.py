"""The parts of the agent: written by `make sbom`, compared by a test.

`build/sbom.cdx.json` is a CycloneDX 1.6 bill of materials with the versions that the lock gives;
`THIRD-PARTY.md` lists the licences.
"""

import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SBOM = ROOT / "build" / "sbom.cdx.json"
THIRD_PARTY = ROOT / "THIRD-PARTY.md"
OURS = "edge-backup-agent"

# Packages that tell their licence in words of their own, as SPDX expressions.
_SPDX = {
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}
_PLAIN = ("Apache-2.0", "BSD-3-Clause", "MIT", "MPL-2.0")
_READ_BY_HAND = {
    "cronsim": "BSD-3-Clause",
    "isodate": "BSD-3-Clause",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
}
_HEAD = """# Third-party software

The packages of an installation with all extras. Written by `make sbom`, which also writes
`build/sbom.cdx.json`, a bill of materials with versions and dependencies (CycloneDX).

| package | licence | needed for |
|---|---|---|
"""


def installed(*extras: str) -> dict[str, set[str]]:
    """The agent with these extras and all that they need here: what each needs, by normalised name."""
    needs: dict[str, set[str]] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(OURS, extra) for extra in ("", *extras)]
    while waiting:
        name, extra = step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        for requirement in _requirements(name, extra):
            needed = canonicalize_name(requirement.name)
            needs.setdefault(name, set()).update({needed} - {name})
            waiting += [(needed, more) for more in ("", *requirement.extras)]
    return {name: needs.get(name, set()) for name in sorted({name for name, _ in seen})}


def _requirements(name: str, extra: str) -> list[Requirement]:
    requirements = map(Requirement, distribution(name).requires or [])
    return [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": extra})]


def licence(name: str) -> str:
    """An SPDX expression. Raises KeyError for a package whose licence nobody has looked at yet."""
    if name in _READ_BY_HAND:
        return _READ_BY_HAND[name]
    metadata = distribution(name).metadata
    if "License-Expression" in metadata:
        return metadata["License-Expression"]
    if "License" in metadata and metadata["License"] in _PLAIN:
        return metadata["License"]
    classifiers = [text for text in metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    if len(classifiers) == 1 and (told := classifiers[0].rpartition(" :: ")[2]) in _SPDX:
        return _SPDX[told]
    raise KeyError(f"{name}: read its licence and add it to _READ_BY_HAND")


def sbom() -> dict[str, Any]:
    """The bill of materials of the agent with all extras. Without a time, so that it can be compared."""
    packages = installed("all")
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component(OURS, "application")},
        "components": [_component(name, "library") for name in packages if name != OURS],
        "dependencies": [{"ref": name, "dependsOn": sorted(needs)} for name, needs in packages.items()],
    }


def _component(name: str, kind: str) -> dict[str, Any]:
    version = distribution(name).version
    return {
        "type": kind,
        "bom-ref": name,
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "licenses": [{"expression": licence(name)}],
    }


def third_party() -> str:
    """Every package with its licence and the extras that need it."""
    by_extra = {extra: installed(extra) for extra in ("aws", "azure", "demo", "encryption", "repository")}
    always = installed()
    rows = []
    for name in installed("all").keys() - {OURS}:
        extras = ", ".join(f"`{extra}`" for extra, names in by_extra.items() if name in names)
        rows.append(f"| {name} | {licence(name)} | {'the agent' if name in always else extras} |\n")
    return _HEAD + "".join(sorted(rows))


def main() -> None:
    THIRD_PARTY.write_text(third_party(), "utf-8")
    SBOM.parent.mkdir(exist_ok=True)
    SBOM.write_text(json.dumps(sbom(), indent=2) + "\n", "utf-8")
    print(f"{len(sbom()['components'])} packages: {THIRD_PARTY.name}, {SBOM.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
