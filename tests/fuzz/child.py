"""Fuzz one target in this process, which ends with it: ``python -m tests.fuzz.child NAME SECONDS FOLDER ENGINE SEED``.

``FOLDER/corpus`` keeps what was interesting, ``FOLDER/findings`` what broke something. With ``SEED`` 0 inputs are
others each time.
"""

from __future__ import annotations

import faulthandler
import sys
from pathlib import Path

from tests.fuzz.target import CORPUS, Target, check, load

INSTRUMENTED = ["taky_twisted", "multipart", "wsproto"]
"""Whose coverage guides: what is ours, and the parsers in Python that we hand strangers' bytes to."""
SLOWNESS = 8.0
"""How much longer instrumented code may take, on a machine that has other work as well."""
HANG_SECONDS = 60
MEMORY_MIB = 2048


def silence() -> None:
    """Keep Twisted from remembering all log events of a process that never begins a log."""
    from twisted.logger import globalLogBeginner

    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)


def main(name: str, seconds: str, folder: str, engine: str, seed: str) -> int:
    """Fuzz; atheris does not return."""
    faulthandler.enable()
    work = Path(folder)
    for part in ("corpus", "findings", "seeds"):
        (work / part).mkdir(parents=True, exist_ok=True)
    if engine == "own":
        from tests.fuzz.mutation import fuzz

        target = load(name)
        silence()
        return fuzz(name, target, float(seconds), work, int(seed) or None)
    import atheris  # type: ignore[import-untyped,import-not-found,unused-ignore]  # it may not be here

    with atheris.instrument_imports(include=INSTRUMENTED):
        target = load(name)
    silence()
    flags = [
        f"-max_total_time={max(1, round(float(seconds)))}",
        f"-seed={seed}",
        f"-max_len={target.max_bytes}",
        f"-timeout={HANG_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={work / 'findings'}/",
        "-print_final_stats=1",
        "-use_value_profile=0",
    ]
    if target.words:
        flags.append(f"-dict={_dictionary(target, work)}")
    for number, first in enumerate(target.seeds()):
        (work / "seeds" / str(number)).write_bytes(first)
    own = CORPUS / name
    folders = [str(path) for path in (work / "corpus", work / "seeds", own) if path.is_dir()]

    def test_one(data: bytes) -> None:
        check(target, data, SLOWNESS)

    atheris.Setup([sys.argv[0], *flags, *folders], test_one)
    atheris.Fuzz()
    return 0


def _dictionary(target: Target, work: Path) -> Path:
    path = work / "words"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words if word)
    path.write_text("".join(f'"{word}"\n' for word in escaped), "ascii")
    return path


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
