"""The checkers of what a release consists of (``.ci/sbom.py``, ``.ci/package.py``): they find what is wrong."""

from __future__ import annotations

import importlib.util
import json
import sys
import tarfile
import zipfile
from copy import deepcopy
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests import __main__ as runner

ROOT = Path(__file__).resolve().parent.parent
DIGEST = "ab" * 32


def loaded(name: str) -> ModuleType:
    """Load a module of ``.ci``, which is no package."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def component(name: str, **more: Any) -> dict[str, Any]:
    """Spell a component as cyclonedx-py does."""
    return {"name": name, "version": "1.0", "bom-ref": name, "licenses": [{"license": {"id": "MIT"}}]} | more


class RunnerTests(SynchronousTestCase):
    """``python -m tests`` is good only if every part is."""

    def status(self, *results: tuple[int, str]) -> int:
        """Run parts that end like that."""
        ends = iter(results)
        self.patch(runner, "run", lambda part, folder: next(ends))
        self.patch(runner, "JOBS", 1)
        self.said = StringIO()
        self.patch(sys, "stdout", self.said)
        return runner.main(["part"] * len(results))

    def test_good(self) -> None:
        """Parts in which tests passed are good, whatever they printed before."""
        self.assertEqual(self.status((0, "FAILED\nPASSED (successes=2)\n"), (0, "PASSED (successes=1)\n")), 0)
        self.assertIn("PASSED (successes=3)", self.said.getvalue())

    def test_bad(self) -> None:
        """A part that failed, broke off, or had no tests is none of these."""
        for result in (
            (1, "FAILED (failures=1, successes=2)\n"),
            (1, "PASSED (successes=2)\n"),
            (-9, "test_a ... [OK]\n"),
            (0, "Ran 0 tests in 0.000s\n\nPASSED\n"),
            (0, ""),
        ):
            self.assertEqual(self.status((0, "PASSED (successes=1)\n"), result), 1, result)

    def test_failures(self) -> None:
        """What failed is said once more at the end, where a cut log still has it."""
        rule, end = "=" * 79, "-" * 79
        failed = f"test_a ... [FAIL]\n{rule}\n[FAIL]\n1 != 2\n{rule}\n[ERROR]\n{end}\nRan 2 tests\nFAILED (errors=2)\n"
        self.status((1, failed), (0, "PASSED (successes=1)\n"), (-9, "test_b ..."))
        _, _, again = self.said.getvalue().partition(runner.FAILURES)
        expected = (
            f"part\n{rule}\n[FAIL]\n1 != 2\n{rule}\n[ERROR]\n\npart\ntest_b ...\n\nFAILED (errors=3, successes=1)\n"
        )
        self.assertEqual(again.lstrip(), expected)
        self.status((0, "PASSED (successes=1)\n"))
        self.assertNotIn(runner.FAILURES, self.said.getvalue())


class SBOMTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sbom = loaded("sbom")
        self.found: dict[str, Any] = {
            "bomFormat": "CycloneDX",
            "metadata": {
                "component": {"name": "taky-twisted", "bom-ref": "root", "licenses": [{"license": {"id": "MIT"}}]}
            },
            "components": [
                component("Twisted"),
                component("zope.interface", licenses=[{"license": {"id": "ZPL-2.1"}}]),
                component("protobuf", licenses=[]),
                component("cryptography", licenses=[{"expression": "Apache-2.0 OR BSD-3-Clause"}]),
                component("taky_twisted"),
            ],
            "dependencies": [
                {"ref": "root", "dependsOn": ["Twisted", "taky_twisted"]},
                {"ref": "taky_twisted"},
                {"ref": "Twisted"},
            ],
        }
        names = ["twisted", "zope-interface", "protobuf", "cryptography", "taky-twisted"]
        archive = {"archive_info": {"hashes": {"sha256": DIGEST}}}
        self.report = {"install": [{"metadata": {"name": name}, "download_info": archive} for name in names]}
        self.page = "".join(
            f"   * - ``{name}``\n     - {said}\n     - x\n"
            for name, said in (
                ("twisted", "MIT"),
                ("zope-interface", "ZPL-2.1"),
                ("protobuf", "BSD-3-Clause"),
                ("cryptography", "Apache-2.0 OR BSD-3-Clause"),
            )
        )
        self.bom: dict[str, Any] = self.sbom.completed(deepcopy(self.found), self.report, "1.2")

    def faults(self, **changes: Any) -> list[str]:
        """Say what is wrong with the first component changed so."""
        bom = deepcopy(self.bom)
        bom["components"][0] |= changes
        found: list[str] = self.sbom.faults(bom, {"twisted", "protobuf"}, "1.2", self.page)
        return found

    def test_good(self) -> None:
        """Versions, licenses and hashes of everything but us are there, and our own version."""
        self.assertEqual(self.faults(), [])
        subject = self.bom["metadata"]["component"]
        self.assertEqual((subject["version"], subject["purl"]), ("1.2", "pkg:pypi/taky-twisted@1.2"))
        names = [each["name"] for each in self.bom["components"]]
        self.assertEqual(names, ["Twisted", "zope.interface", "protobuf", "cryptography"])
        self.assertEqual(self.bom["components"][2]["licenses"], [{"license": {"id": "BSD-3-Clause"}}])
        self.assertEqual(self.bom["components"][3]["licenses"], [{"expression": "Apache-2.0 OR BSD-3-Clause"}])
        self.assertEqual({each["hashes"][0]["content"] for each in (subject, *self.bom["components"])}, {DIGEST})
        self.assertEqual(
            self.bom["dependencies"], [{"ref": "root", "dependsOn": ["Twisted"]}, {"ref": "Twisted", "dependsOn": []}]
        )

    def test_wrong(self) -> None:
        """Whatever is missing, of the wrong license, or does not belong there is named."""
        for changes, words in (
            ({"name": "other"}, "twisted is missing"),
            ({"version": ""}, "Twisted has no version"),
            ({"hashes": [{"content": ""}]}, "Twisted has no SHA-256"),
            ({"licenses": [{"license": {"id": "GPL-3.0-only"}}]}, "Twisted: the license GPL-3.0-only"),
            ({"licenses": [{"expression": "MIT AND GPL-3.0-only"}]}, "Twisted: the license MIT AND GPL-3.0-only"),
            ({"licenses": []}, "Twisted: the license is not known"),
            ({"licenses": [{"license": {"id": "ISC"}}]}, "does not list ``twisted`` with ISC"),
            ({"name": "pip"}, "pip is the program itself, or a tool"),
        ):
            self.assertIn(words, "\n".join(self.faults(**changes)), changes)
        self.assertIn("it is not one of", self.sbom.faults(self.bom, set(), "1.3", self.page)[0])

    def test_choice(self) -> None:
        """Of several licenses one that we can live with is enough, if there is a choice."""
        for spelled, good in (
            ("MIT", True),
            ("GPL-2.0-only OR MIT", True),
            ("Apache-2.0 AND BSD-2-Clause", True),
            ("MIT AND GPL-2.0-only", False),
            ("", False),
        ):
            self.assertEqual(self.sbom.is_compatible(spelled), good, spelled)

    def test_here(self) -> None:
        """What pyproject.toml wants is read, and each of it is on the manual's page."""
        wanted = self.sbom.direct_dependencies(ROOT)
        self.assertIn("twisted", wanted)
        self.assertIn("service-identity", wanted)
        page = (ROOT / "doc" / "reference" / "dependencies.rst").read_text("utf-8")
        self.assertEqual([name for name in wanted if f"   * - ``{name}``\n" not in page], [])

    def test_main(self) -> None:
        """What is not good is no status 0, and the words say why."""
        folder = Path(self.mktemp())
        folder.mkdir()
        for name, content in (("found", self.found), ("report", self.report)):
            (folder / name).write_text(json.dumps(content), "utf-8")
        with self.assertRaises(SystemExit) as caught:
            self.sbom.main(str(folder / "found"), str(folder / "report"), str(ROOT), str(folder / "out"))
        self.assertIn("lxml is missing", str(caught.exception))


class PackageTests(SynchronousTestCase):
    def test_difference(self) -> None:
        """A file that is missing, or that has no place there, is named; so for the wheel as for the sdist."""
        package = loaded("package")
        tree = Path(self.mktemp())
        for name in (*package.NEEDED, "tests/a.py", "doc/index.rst", "bench/b.py", ".ci/run"):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_text("x", "utf-8")
        about = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
        wheel, sdist = tree / "a.whl", tree / "a.tar.gz"

        def make(in_wheel: set[str], in_sdist: set[str]) -> str:
            with zipfile.ZipFile(wheel, "w") as archive:
                for name in sorted(in_wheel | {f"a-1.dist-info/{name}" for name in about}):
                    archive.writestr(name, "x")
            with tarfile.open(sdist, "w:gz") as packed:
                for name in sorted(in_sdist):
                    packed.add(tree / "doc/index.rst", f"a-1/{name}")
            try:
                package.main(str(tree), str(wheel), str(sdist))
            except SystemExit as error:
                return str(error)
            return ""

        everything = package.files_below(tree, *package.SHIPPED) | package.BESIDE
        self.assertEqual(make(package.NEEDED, everything), "")
        self.assertIn(
            "the wheel lacks taky_twisted/takproto/takproto.proto",
            make(package.NEEDED - {"taky_twisted/takproto/takproto.proto"}, everything),
        )
        self.assertEqual(make(package.NEEDED | {"tests/a.py"}, everything), "the wheel must not hold tests/a.py")
        self.assertEqual(make(package.NEEDED, everything - {"tests/a.py"}), "the sdist lacks tests/a.py")
        self.assertEqual(make(package.NEEDED, everything | {"_trial_temp/x"}), "the sdist must not hold _trial_temp/x")
