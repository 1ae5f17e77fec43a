"""What is different for one of several processes that are one server on one machine.

::

    taky --workers N --> Supervisor --> taky --worker 1     everything as in a server of one process: data folder,
                              |                             sockets for operators, UDP, multicast
                              `-------> taky --worker 2     data folder worker-2 in the site's; no UDP, no multicast
                                        ...

All share: taky.conf, certificates and their register, uploaded files, what people are given at enrollment, the server's
id, the key for access tokens. Each has: what is on the map, accounts, history, recorded events. The bus keeps all of
that in step but history and recorded events.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from taky_twisted.config.settings import Settings
from taky_twisted.config.values import ConfigError

UPLOADS = "dp-user"
"""Where uploaded files are in the data folder."""
_FOLDER = "worker-"


def check_workers(settings: Settings) -> None:
    """Raise `ConfigError` if several processes are wanted that would not be one server."""
    if settings.worker is None and settings.workers == 1:
        return
    wanted = f"workers = {settings.workers}" if settings.worker is None else f"worker {settings.worker}"
    if settings.bus is None:
        raise ConfigError(
            f"{wanted} needs a bus, or clients of one process would not hear those of another: say"
            " --bus=redis:tcp:localhost:6379 (bus in [taky]), where a Redis server is"
        )
    if settings.store is not None and settings.store.startswith("sqlite:"):
        raise ConfigError(
            f"{wanted}: the store {settings.store} is one file, and each process needs its own; leave store out, then"
            " each has one in its data folder"
        )
    if settings.worker is not None and 1 < settings.workers < settings.worker:
        raise ConfigError(f"{wanted} is one too many: workers = {settings.workers}")


def as_worker(settings: Settings, number: int) -> Settings:
    """Give a worker what is its own.

    The first one has the site's own folder, so that a server that grows, or shrinks again, finds everything.
    """
    site_dir = settings.data_dir
    made = replace(settings, worker=number, site_dir=site_dir, upload_path=settings.upload_path or site_dir / UPLOADS)
    if number == 1:
        return made
    return replace(
        made,
        data_dir=site_dir / folder_name(number),
        log_cot=None if settings.log_cot is None else settings.log_cot / folder_name(number),
        admin_endpoints=(),
    )


def folder_name(number: int) -> str:
    """Name the folder of a worker that is not the first."""
    return f"{_FOLDER}{number}"


def worker_folders(site_dir: Path) -> list[Path]:
    """List the folders of the workers, but for the first's, which is the site's."""
    found = (path for path in site_dir.glob(f"{_FOLDER}*") if path.name.removeprefix(_FOLDER).isdigit())
    return sorted(found, key=lambda path: int(path.name.removeprefix(_FOLDER)))
