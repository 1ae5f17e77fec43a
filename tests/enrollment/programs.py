"""Other people's programs, to hold our files against: OpenSSL, and Java's keytool where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def openssl(*arguments: str, given: bytes = b"") -> str:
    """Run openssl, which is everywhere; return what it printed."""
    ran = subprocess.run(["openssl", *arguments], input=given, capture_output=True, timeout=60)
    if ran.returncode != 0:
        raise AssertionError(f"openssl {' '.join(arguments)}: {ran.stderr.decode('utf-8', 'replace')}")
    return ran.stdout.decode("utf-8", "replace")


def pkcs12(path: Path, password: str, *arguments: str) -> str:
    """Let openssl read a PKCS#12 file, without its legacy provider; return also what it says of the algorithms."""
    command = ["openssl", "pkcs12", "-in", str(path), "-passin", f"pass:{password}", "-info", *arguments]
    ran = subprocess.run(command, capture_output=True, timeout=60)
    if ran.returncode != 0:
        raise AssertionError(f"openssl cannot read {path}: {ran.stderr.decode('utf-8', 'replace')}")
    return (ran.stdout + ran.stderr).decode("utf-8", "replace")


def keytool_entries(path: Path, password: str) -> dict[str, str] | None:
    """Let Java list a key store: alias and kind of each entry; None where there is no Java."""
    program = shutil.which("keytool")
    if program is None:
        return None
    options = ["-J-Duser.language=en", "-list", "-keystore", str(path), "-storepass", password, "-storetype", "PKCS12"]
    ran = subprocess.run([program, *options], capture_output=True, timeout=60)
    if ran.returncode != 0:
        raise AssertionError(f"keytool cannot read {path}: {ran.stdout.decode('utf-8', 'replace')}")
    entries = {}
    for line in ran.stdout.decode("utf-8", "replace").splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) >= 4 and words[-2].endswith("Entry"):
            entries[words[0]] = words[-2]
    return entries
