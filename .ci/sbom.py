"""Complete the SBOM that cyclonedx-py made, and refuse one that is not whole; .ci/sbom calls this.

    sbom.py FOUND.json REPORT.json ROOT OUT.json

cyclonedx-py reads what is installed, and so knows no hashes, and no license where a package does not spell it as SPDX
has it. pip's report has the hashes; `LICENSES` has what such packages' own files say.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

NAME = "taky-twisted"
LICENSES = {
    "hiredis": "MIT",
    "protobuf": "BSD-3-Clause",
    "pyopenssl": "Apache-2.0",
    "segno": "BSD-3-Clause",
    "txredisapi": "Apache-2.0",
}
"""SPDX identifiers of licenses that a package spells in words; read in the LICENSE file that it ships."""
COMPATIBLE = {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0", "ZPL-2.1"}
"""What may be installed beside, or shipped with, a program under the MIT license without changing its terms."""


def canonical(name: str) -> str:
    """Spell a package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def license_of(component: dict[str, Any]) -> str:
    """Read a component's license as an SPDX expression; empty if it says none, or says it in words."""
    for each in component.get("licenses", ()):
        found = each.get("expression") or each["license"].get("id")
        if found:
            return str(found)
    return LICENSES.get(canonical(component["name"]), "")


def is_compatible(expression: str) -> bool:
    """Whether we may live with a license: with one of several where there is a choice, else with all of them."""
    return any(
        all(part.strip(" ()") in COMPATIBLE for part in choice.split(" AND ")) for choice in expression.split(" OR ")
    )


def direct_dependencies(root: Path) -> set[str]:
    """Name what pyproject.toml wants at run time. Not with tomllib, which Python 3.10 has not."""
    text = (root / "pyproject.toml").read_text("utf-8")
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    if listed is None:
        raise SystemExit("pyproject.toml has no dependencies")
    return {canonical(name) for name in re.findall(r'^ *"([A-Za-z0-9._-]+)', listed[1], re.MULTILINE)}


def version_of(root: Path) -> str:
    """Read our own version from where it is said."""
    said = re.search(r'^__version__ = "(.+)"', (root / "taky_twisted" / "__init__.py").read_text("utf-8"), re.MULTILINE)
    if said is None:
        raise SystemExit("taky_twisted/__init__.py says no version")
    return said[1]


def completed(found: dict[str, Any], report: dict[str, Any], version: str) -> dict[str, Any]:
    """Add hashes, licenses in SPDX, and our own version."""
    installed = {
        canonical(each["metadata"]["name"]): each["download_info"]["archive_info"]["hashes"]["sha256"]
        for each in report["install"]
    }
    # We are the subject, not one of the components.
    components = [each for each in found["components"] if canonical(each["name"]) != NAME]
    subject = found["metadata"]["component"]
    subject |= {"version": version, "purl": f"pkg:pypi/{NAME}@{version}"}
    for each in (subject, *components):
        each["hashes"] = [{"alg": "SHA-256", "content": installed.get(canonical(each["name"]), "")}]
    for each in components:
        spelled = license_of(each)
        key = "expression" if " " in spelled else "license"
        each["licenses"] = [{key: spelled if key == "expression" else {"id": spelled}}]
    # What only cyclonedx-py's own entry of us referred to.
    references = {each["bom-ref"] for each in (subject, *components)}
    return found | {
        "components": components,
        "dependencies": [
            each | {"dependsOn": [other for other in each.get("dependsOn", ()) if other in references]}
            for each in found["dependencies"]
            if each["ref"] in references
        ],
    }


def faults(bom: dict[str, Any], wanted: set[str], version: str, page: str) -> list[str]:
    """Say what is wrong with an SBOM."""
    wrong = []
    subject = bom["metadata"]["component"]
    if (bom.get("bomFormat"), subject["name"], subject["version"]) != ("CycloneDX", NAME, version):
        wrong.append(f"it is not one of {NAME} {version}")
    names = {canonical(each["name"]) for each in bom["components"]}
    wrong += [f"{name} is missing" for name in sorted(wanted - names)]
    wrong += [
        f"{name} is the program itself, or a tool" for name in sorted(names & {NAME, "pip", "setuptools", "wheel"})
    ]
    for each in (subject, *bom["components"]):
        name, spelled = each["name"], license_of(each)
        if not each.get("version"):
            wrong.append(f"{name} has no version")
        if not re.fullmatch("[0-9a-f]{64}", each["hashes"][0]["content"]):
            wrong.append(f"{name} has no SHA-256")
        if not is_compatible(spelled):
            wrong.append(f"{name}: the license {spelled or 'is not known'}; allowed: {', '.join(sorted(COMPATIBLE))}")
        elif each is not subject and not re.search(
            rf"``{re.escape(canonical(name))}``\n +- {re.escape(spelled)}\n", page
        ):
            wrong.append(f"{name}: doc/reference/dependencies.rst does not list ``{canonical(name)}`` with {spelled}")
    return wrong


def main(found: str, report: str, root: str, out: str) -> None:
    """Read both, write the result, and say what is wrong with it."""
    version = version_of(Path(root))
    bom = completed(json.loads(Path(found).read_text("utf-8")), json.loads(Path(report).read_text("utf-8")), version)
    Path(out).write_text(json.dumps(bom, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    page = (Path(root) / "doc" / "reference" / "dependencies.rst").read_text("utf-8")
    wrong = faults(json.loads(Path(out).read_text("utf-8")), direct_dependencies(Path(root)), version, page)
    if wrong:
        raise SystemExit("\n".join(["the SBOM is not good:", *wrong]))
    print(f"{out}: {NAME} {version} and {len(bom['components'])} components")


if __name__ == "__main__":
    main(*sys.argv[1:])
