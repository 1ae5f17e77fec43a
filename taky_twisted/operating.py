"""Let operators in: which sockets there are, and what of the server they reach."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taky_twisted.admin.commands import Admin, Running
from taky_twisted.admin.protocol import AdminProtocol
from taky_twisted.admin.sockets import AdminSocket, AdminSockets, admin_path
from taky_twisted.admin.taky_protocol import TakyProtocol
from taky_twisted.config import Settings
from taky_twisted.data_folder import ADMIN_SOCKET, TAKY_SOCKET
from taky_twisted.doors import Doors
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.failures import Failures
from taky_twisted.reloading import Reloading
from taky_twisted.routing.router import Router
from taky_twisted.streaming.connections import Connections

if TYPE_CHECKING:
    from taky_twisted.api import Api
    from taky_twisted.identity.tls import MutualTLS
    from taky_twisted.joining import Joining


def admin_sockets(
    reactor: Any,
    settings: Settings,
    data_dir: Path,
    router: Router,
    connections: Connections,
    failures: Failures,
    reloading: Reloading,
    doors: Doors,
    tls: Sequence[MutualTLS],
    api: Api | None,
    accounts: Accounts | None = None,
    joining: Joining | None = None,
) -> AdminSockets:
    """Make the sockets of a server that is not started yet.

    Raises:
        EndpointError: an ``--admin-endpoint`` cannot be used.
    """

    def kick(name: str, reason: str) -> int:
        if joining is not None:
            joining.nodes.kick(name, reason)
        return connections.close_named(name, reason) + (api.close_named(name, reason) if api is not None else 0)

    def counts() -> Mapping[str, int]:
        return {
            "streams": len(connections),
            "handshakes": len(connections.handshakes),
            "unidentified": len(connections.unidentified),
            "http": len(api.connections) if api is not None else 0,
        }

    def ban(name: str) -> Sequence[int]:
        from taky_twisted.enrolling import issuing_of  # only when it is needed
        from taky_twisted.enrollment.register import CertificateRegister

        registers = dict.fromkeys(each.settings.register.path for each in tls if each.settings.register is not None)
        revoked = [CertificateRegister(Path(path)).revoke_name(name) for path in registers]
        issuing = issuing_of(settings)
        if issuing is not None and os.path.abspath(issuing.register.path) in registers:
            issuing.publish()
        return [record.serial for records in revoked for record in records]

    running = Running(
        reactor=reactor,
        router=router,
        failures=failures,
        reload=reloading.reload,
        kick=kick,
        ban=ban,
        counts=counts,
        doors=doors.describe,
        accounts=accounts,
        invites=api.enrolling.invites if api is not None else None,
    )
    admin = Admin(running)
    named = [admin_path(description) for description in settings.admin_endpoints]
    ours = [AdminSocket(path, lambda: AdminProtocol(admin), bool(named)) for path in named or [data_dir / ADMIN_SOCKET]]
    return AdminSockets(reactor, [*ours, AdminSocket(data_dir / TAKY_SOCKET, lambda: TakyProtocol(admin), False)])
