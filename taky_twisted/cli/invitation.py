"""An invitation as it is handed over: links, codes to scan, and a page to print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape

from taky_twisted.enrollment import qr
from taky_twisted.enrollment.invites import spaced

_STYLE = """
body { font-family: sans-serif; margin: 2em; color: #000; background: #fff; }
section { page-break-after: always; break-after: page; }
section:last-child { page-break-after: auto; break-after: auto; }
.codes { display: flex; flex-wrap: wrap; gap: 3em; }
figure { margin: 0; }
figcaption { font-weight: bold; margin-bottom: .5em; }
svg { width: 7cm; height: 7cm; }
code { font-size: 1.2em; }
"""


@dataclass(frozen=True)
class Invitation:
    """For one name."""

    name: str
    token: str
    host: str
    """By which phones call the server."""
    port: int
    """Of CoT."""
    uses: int
    expires: float
    """Seconds since the epoch."""

    @property
    def atak(self) -> str:
        """The link with which ATAK and PyTAK enroll."""
        where = self.host if self.port == qr.COT_PORT else f"{self.host}:{self.port}"
        return qr.atak_enroll(where, self.name, self.token)

    @property
    def itak(self) -> str:
        """What iTAK and TAK Aware scan."""
        return qr.itak_enroll(self.host, self.name, self.token, self.port)

    @property
    def ends(self) -> str:
        """When it ends, for people."""
        return f"{datetime.fromtimestamp(self.expires, timezone.utc):%Y-%m-%d %H:%M} UTC"

    @property
    def worth(self) -> str:
        """How long and for how many devices it is good."""
        return f"for {self.uses} device{'s' if self.uses != 1 else ''}, until {self.ends}"


def terminal(invitation: Invitation) -> str:
    """Draw the codes with characters, with what somebody needs who has to type."""
    lines = [
        f"{invitation.name}: an invite {invitation.worth}",
        "",
        "ATAK: scan",
        qr.terminal(invitation.atak),
        "iTAK, TAK Aware: scan",
        qr.terminal(invitation.itak),
        "Link (ATAK on this device, PyTAK):",
        f"  {invitation.atak}",
        "",
        "By hand:",
        f"  server    {invitation.host}, port {invitation.port}, SSL, enroll for a client certificate",
        f"  user      {invitation.name}",
        f"  password  {spaced(invitation.token)}",
    ]
    return "\n".join(lines)


def page(invitations: Sequence[Invitation], server: str, first: str | None) -> str:
    """Spell a page to print, with a sheet for each.

    Args:
        invitations: for whom.
        server: what people call it.
        first: what has to be done before scanning, if anything.
    """
    sheets = "\n".join(_sheet(invitation, server, first) for invitation in invitations)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>Invites to {escape(server)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{sheets}\n</body>\n"
        "</html>\n"
    )


def _sheet(invitation: Invitation, server: str, first: str | None) -> str:
    name, host = escape(invitation.name), escape(invitation.host)
    before = f"<p>{escape(first)}</p>\n" if first is not None else ""
    return (
        f"<section>\n<h1>{name}</h1>\n<p>Your invite to the TAK server {escape(server)},"
        f" {escape(invitation.worth)}. Whoever scans it is {name} there: keep it to yourself.</p>\n{before}"
        '<div class="codes">\n'
        f"<figure><figcaption>ATAK</figcaption>{qr.inline(invitation.atak)}</figure>\n"
        f"<figure><figcaption>iTAK, TAK Aware</figcaption>{qr.inline(invitation.itak)}</figure>\n</div>\n"
        f"<p>By hand: server <code>{host}</code>, port <code>{invitation.port}</code>, SSL, enroll for a client"
        f" certificate; user <code>{name}</code>, password <code>{spaced(invitation.token)}</code></p>\n</section>"
    )
