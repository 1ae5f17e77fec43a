"""The wheel, installed into a clean environment: the only place where a plugin's packaging shows its faults."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted import __version__

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.rst", "LICENSE", ".gitignore", "taky_twisted", "twisted")
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE", "VIRTUAL_ENV"))
}
TWISTD = "from twisted.scripts.twistd import run; run()"
PARSE = """
from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactorClock
serverFromString(MemoryReactorClock(), "taktls:0:privateKey=nowhere.pem")
"""


def run(*command: str | Path) -> tuple[int, str]:
    """Run a program and return its exit status and everything that it printed."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env=ENVIRONMENT,
        cwd=tempfile.gettempdir(),
        check=False,
    )
    return done.returncode, done.stdout


def run_well(*command: str | Path) -> str:
    """Run a program that must succeed, and return everything that it printed."""
    status, output = run(*command)
    if status:
        raise AssertionError(f"{' '.join(map(str, command))} ended with status {status}:\n{output}")
    return output


def dependencies(requirements: list[str]) -> dict[str, Distribution]:
    """Find, among what is installed here, all that some requirements lead to."""
    found: dict[str, Distribution] = {}
    todo = list(requirements)
    while todo:
        requirement = todo.pop()
        name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()
        if name in found or re.search(r"\bextra\s*==", requirement):
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            # Wanted on another platform or Python only; if not, an import fails below.
            continue
        todo += found[name].requires or []
    return found


class Environment:
    """A virtual environment with a wheel's dependencies and nothing else, made without a network.

    The dependencies are copies of those that run this test, so that Twisted's plugins and ours share one folder, as
    they do wherever somebody has installed us.
    """

    def __init__(self, folder: Path, requirements: list[str]) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        (self.packages,) = (folder / "lib").glob("python*/site-packages")
        for installed in dependencies(requirements).values():
            for file in installed.files or []:
                source = Path(str(file.locate()))
                if ".." in file.parts or file.suffix == ".pth" or not source.exists():
                    continue
                target = self.packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)

    def pip(self, *arguments: str | Path) -> str:
        """Let this interpreter's pip work on the environment."""
        return run_well(sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", *arguments)

    def twistd(self, *arguments: str) -> str:
        """Run the environment's twistd."""
        return run_well(self.python, "-c", TWISTD, *arguments)

    def lists_taky(self) -> bool:
        """Whether ``twistd --help`` offers ``taky``; a broken plugin would also print a traceback."""
        output = self.twistd("--help")
        if "Traceback" in output:
            raise AssertionError(output)
        return re.search(r"^ +taky ", output, re.MULTILINE) is not None

    def has_taktls(self) -> bool:
        """Whether Twisted finds the parser of ``taktls:`` endpoints."""
        _, output = run(self.python, "-c", PARSE)
        return "Unknown endpoint type" not in output

    def has_twisted(self) -> bool:
        """Whether Twisted is whole: its core and one of its own plugins."""
        output = run_well(
            self.python, "-c", "import twisted.internet.reactor, twisted.plugins.twisted_core; print('yes')"
        )
        return "yes" in output and re.search(r"^ +web ", self.twistd("--help"), re.MULTILINE) is not None


class PluginTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Copy what is packaged, so that building leaves nothing in the working tree."""
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.sources = self.folder / "sources"
        self.sources.mkdir()
        for name in SOURCES:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "dropin.cache")
                shutil.copytree(ROOT / name, self.sources / name, ignore=ignored)
            else:
                shutil.copyfile(ROOT / name, self.sources / name)

    def build_wheel(self) -> Path:
        """Build the wheel with the hatchling that is installed here."""
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
        run_well(
            *pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", self.folder / "dist", self.sources
        )
        (wheel,) = (self.folder / "dist").glob("*.whl")
        return wheel

    def requirements_of(self, wheel: Path) -> list[str]:
        """Read what the wheel says that it needs."""
        with zipfile.ZipFile(wheel) as archive:
            (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            lines = archive.read(metadata).decode("utf-8").splitlines()
        return [line.partition(": ")[2] for line in lines if line.startswith("Requires-Dist: ")]

    def test_wheel(self) -> None:
        """Installed from the wheel, twistd has ``taky`` and ``taktls:``; uninstalled, Twisted is as it was."""
        wheel = self.build_wheel()
        environment = Environment(self.folder / "clean", self.requirements_of(wheel))
        self.assertFalse(environment.lists_taky())
        self.assertFalse(environment.has_taktls())

        environment.pip("install", "--no-deps", "--no-index", "--ignore-installed", wheel)
        self.assertTrue(environment.lists_taky())
        self.assertTrue(environment.has_taktls())
        self.assertIn(__version__, run_well(self.folder / "clean" / "bin" / "taky", "--version"))
        self.assertIn(__version__, environment.twistd("taky", "--version"))
        self.assertTrue(environment.has_twisted())

        environment.pip("uninstall", "--yes", "taky-twisted")
        self.assertFalse((environment.packages / "taky_twisted").exists())
        self.assertFalse((environment.packages / "twisted" / "plugins" / "taky_plugin.py").exists())
        self.assertFalse(environment.lists_taky())
        self.assertTrue(environment.has_twisted())

    def test_contents(self) -> None:
        """The wheel holds our modules with their data, one file beside Twisted's plugins, and nothing else."""
        files = [path for path in (self.sources / "taky_twisted").rglob("*") if path.is_file()]
        expected = {path.relative_to(self.sources).as_posix() for path in files} | {"twisted/plugins/taky_plugin.py"}
        for needed in ("taky_twisted/py.typed", "taky_twisted/cli/taky.py"):
            self.assertIn(needed, expected)
        with zipfile.ZipFile(self.build_wheel()) as archive:
            names = set(archive.namelist())
        self.assertEqual({name for name in names if not name.startswith("taky_twisted-")}, expected)
        self.assertTrue(any(name.endswith("LICENSE") for name in names - expected), names - expected)

    def test_editable(self) -> None:
        """``pip install -e .`` has ``taky`` and ``taktls:`` too, with the code of the working tree."""
        requirements = self.requirements_of(self.build_wheel())
        environment = Environment(self.folder / "editable", [*requirements, "hatchling"])
        environment.pip(
            *("install", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed", "-e", self.sources)
        )
        self.assertTrue(environment.lists_taky())
        self.assertTrue(environment.has_taktls())
        where = run_well(environment.python, "-c", "import taky_twisted; print(taky_twisted.__file__)")
        self.assertTrue(Path(where.strip()).resolve().is_relative_to(self.sources.resolve()), where)

        environment.pip("uninstall", "--yes", "taky-twisted")
        self.assertFalse(environment.lists_taky())
        self.assertTrue(environment.has_twisted())
