"""The units by which systemd runs a site: their names and texts.

One process is one service. Several are instances of one template, ``taky@1.service`` and so on, and a target that wants
them, ``taky.target``; each takes its number as ``--worker``.
"""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from pathlib import Path

from taky_twisted.cli.commands import CommandError
from taky_twisted.config import Settings
from taky_twisted.config.taky_conf import SYSTEM_FILE
from taky_twisted.endpoints.strings import port_of

UNIT_FOLDERS = (Path("/etc/systemd/system"), Path("/run/systemd/system"), Path("/usr/lib/systemd/system"))
WATCHDOG_SECONDS = 60
STOP_SECONDS = 20
OPEN_FILES = 65536
FIRST_FREE_PORT = 1024
_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")


def site_name(settings: Settings) -> str:
    """Name a site as taky's units do: ``taky``, or ``taky-HOST`` for one that is not in ``/etc/taky``."""
    return "taky" if settings.path == SYSTEM_FILE else f"taky-{settings.hostname}"


def unit_name(settings: Settings) -> str:
    """Name a site's unit."""
    return f"{site_name(settings)}.service"


def template_name(settings: Settings) -> str:
    """Name the template of a site's workers."""
    return f"{site_name(settings)}@.service"


def target_name(settings: Settings) -> str:
    """Name what wants all workers of a site."""
    return f"{site_name(settings)}.target"


def target_text(settings: Settings, workers: int) -> str:
    """Spell the target of a site that has so many workers."""
    instances = [template_name(settings).replace("@", f"@{number}") for number in range(1, workers + 1)]
    lines = [
        "# Made by 'takyctl systemd'.",
        "[Unit]",
        f"Description=TAK server {settings.hostname} (taky_twisted), {workers} processes",
        f"Wants={' '.join(instances)}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    return "\n".join(lines)


def unit_text(settings: Settings, user: str | None, program: Path, workers: int = 1) -> str:
    """Spell a site's unit.

    Args:
        settings: of the site; its configuration is a file.
        user: as whom it runs; None is root.
        program: ``taky``, with its folder.
        workers: how many processes there are; with more than one this is the template of each.

    Raises:
        CommandError: a path cannot stand in a unit.
    """
    assert settings.path is not None
    for place in _written(settings):
        if not place.is_dir():
            raise CommandError(
                f"the folder {place} is not there, and systemd will not let the server make it: make it, and give it to"
                f" {user or 'root'}"
            )
    places = [settings.path.parent, *_written(settings), program]
    template, alone = workers > 1, settings.workers == 1
    which = f" --workers={workers} --worker=%i" if template else "" if alone else " --workers=1"
    lines = [
        "# Made by 'takyctl systemd'.",
        "[Unit]",
        f"Description=TAK server {settings.hostname} (taky_twisted){', process %i' if template else ''}",
        *([f"PartOf={target_name(settings)}"] if template else []),
        "Wants=network-online.target",
        "After=network-online.target time-sync.target",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        "Environment=LOG_LEVEL=info PYTHONUNBUFFERED=1",
        f"EnvironmentFile=-/etc/default/{site_name(settings)}",
        *([f"User={user}"] if user is not None else []),
        f"WorkingDirectory={_path(settings.path.parent)}",
        f"ExecStart={_word(program)} -l ${{LOG_LEVEL}} -c {_word(settings.path)}{which}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=always",
        "RestartSec=3",
        f"WatchdogSec={WATCHDOG_SECONDS}",
        f"TimeoutStopSec={STOP_SECONDS}",
        f"LimitNOFILE={OPEN_FILES}",
        "UMask=0077",
        "",
        "# It needs its files and the network, nothing else.",
        *_capabilities(settings),
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        f"ReadWritePaths={' '.join(_word(place) for place in _written(settings))}",
        f"ProtectHome={'read-only' if _is_in(places, _HOMES) else 'yes'}",
        f"PrivateTmp={'no' if _is_in(places, _TEMPORARY) else 'yes'}",
        "PrivateDevices=yes",
        "ProtectClock=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "",
        "[Install]",
        f"WantedBy={target_name(settings) if template else 'multi-user.target'}",
        "",
    ]
    return "\n".join(lines)


def program_path() -> Path:
    """Find the ``taky`` that belongs to this ``takyctl``."""
    return Path(sys.prefix, "bin", "taky")


def owner_of(settings: Settings) -> str | None:
    """Name whom the site's data belongs to; None for root, or nobody that has a name."""
    place = settings.data_dir if settings.data_dir.exists() else settings.path
    try:
        owner = os.stat(place).st_uid if place is not None else 0
        return None if owner == 0 else pwd.getpwuid(owner).pw_name
    except (OSError, KeyError):
        return None


def check_user(user: str) -> None:
    """Refuse a user whom this machine does not know."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        raise CommandError(
            f"there is no user {user!r}; make one: useradd --system --home-dir /var/lib/taky {shlex.quote(user)}"
        ) from None


def _written(settings: Settings) -> list[Path]:
    """List the folders in which the server writes."""
    places = [settings.data_dir]
    if settings.ssl.cert_db is not None and settings.ssl.cert_db.parent.is_dir():
        places.append(settings.ssl.cert_db.parent)  # bans are written there
    places += [place for place in (settings.log_cot, settings.upload_path) if place is not None]
    if settings.store is not None and settings.store.startswith("sqlite:"):
        places.append(Path(settings.store.partition(":")[2]).parent)
    return list(dict.fromkeys(place.absolute() for place in places))


def all_doors(settings: Settings) -> tuple[str, ...]:
    """List the endpoints on which clients of any kind are taken in."""
    return (
        *(*settings.cot_doors(), *settings.monitor_doors()),
        *(*settings.marti_doors(), *settings.enroll_doors()),
    )


def _capabilities(settings: Settings) -> list[str]:
    ports = [port for door in all_doors(settings) if (port := port_of(door)) is not None]
    if any(port < FIRST_FREE_PORT for port in ports):
        return ["CapabilityBoundingSet=CAP_NET_BIND_SERVICE", "AmbientCapabilities=CAP_NET_BIND_SERVICE"]
    return ["CapabilityBoundingSet="]


def _is_in(places: list[Path], folders: tuple[str, ...]) -> bool:
    return any(place.is_relative_to(folder) for place in places for folder in folders)


def _path(path: Path) -> str:
    text = str(path)
    if not text.isprintable():
        raise CommandError(f"the path {text!r} cannot stand in a unit; choose another folder")
    return text.replace("%", "%%")


def _word(path: Path) -> str:
    """Spell a path where words are read: quoted if need be, and nothing in it is put in place of anything."""
    text = _path(path).replace("$", "$$")
    if any(character in text for character in " \t\"'\\;"):
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return text
