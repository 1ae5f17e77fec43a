"""taky 0.10 itself, from PyPI, in a virtual environment that is made once per machine."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = ("setuptools<80", "taky==0.10")  # taky's Flask wants a pkg_resources that later ones have no more
SECONDS = 300
"""How long pip may take."""


def taky_python() -> str:
    """Tell the Python that has taky; makes it when it is not there yet."""
    name = f"taky-0.10-python{sys.version_info.major}.{sys.version_info.minor}-{os.getuid()}"
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    # What lies in a folder that everybody can write to may be somebody else's.
    assert status.st_uid == os.getuid() and not status.st_mode & 0o022, f"{folder} is not ours alone: remove it"
    python, made = folder / "venv" / "bin" / "python", folder / "made"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made.exists() and python.exists()):  # the Python may be gone that it was made with
            _run(sys.executable, "-m", "venv", "--clear", str(folder / "venv"))
            _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS)
            made.touch()
    return str(python)


def _run(*command: str) -> None:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=_environment(), check=False)
    assert ran.returncode == 0, f"{' '.join(command)}:\n{ran.stdout}{ran.stderr}"


def _environment() -> dict[str, str]:
    """Leave out what would make another Python find our packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE"))}


def run_taky(script: str, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run a few lines of Python in which taky can be imported; returns what they print."""
    ran = subprocess.run(
        [taky_python(), "-c", script, *arguments],
        input=stdin,
        capture_output=True,
        timeout=60,
        env=_environment(),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout
