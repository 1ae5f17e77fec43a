"""Make the doors that the settings name, not open yet."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IListeningPort

from taky_twisted import logs
from taky_twisted.admitting import asks, auth_of_requests, auth_of_streams
from taky_twisted.config import Settings
from taky_twisted.doors import Door
from taky_twisted.endpoints import TLSDefaults, server_endpoint
from taky_twisted.endpoints.shared import worker_doors
from taky_twisted.endpoints.strings import split
from taky_twisted.identity.accounts import Accounts
from taky_twisted.identity.proofs import Auth
from taky_twisted.routing.recorder import Recorder
from taky_twisted.routing.router import Router
from taky_twisted.streaming.connections import Connections
from taky_twisted.streaming.datagrams import MAX_DATAGRAM, CoTDatagrams, CoTMulticast
from taky_twisted.streaming.factory import CoTFactory
from taky_twisted.streaming.transport import write_eagerly

if TYPE_CHECKING:
    from taky_twisted.api import Api

log = logs.Logger()


def stream_doors(
    reactor: Any,
    settings: Settings,
    defaults: TLSDefaults,
    router: Router,
    connections: Connections,
    recorder: Recorder | None,
    accounts: Accounts,
) -> Iterator[Door]:
    """Make the doors for CoT streams and monitors."""
    streams = worker_doors(settings.cot_doors(), settings.worker)
    monitors = worker_doors(settings.monitor_doors(), settings.worker)
    for name, monitor in [(name, False) for name in streams] + [(name, True) for name in monitors]:
        endpoint, shown = server_endpoint(reactor, name, defaults), shown_name(name)
        tls = getattr(endpoint, "tls", None)
        factory = CoTFactory(
            reactor,
            router,
            connections,
            shown,
            tls is not None,
            monitor,
            recorder,
            settings.tak_protocol,
            settings.tak_protocol_of,
            auth := auth_of_streams(endpoint),
            accounts,
        )
        opened = partial(_listening, shown, auth)
        yield Door(shown, "monitor" if monitor else "CoT", endpoint, factory, opened)


def marti_doors(
    reactor: Any, settings: Settings, defaults: TLSDefaults, api: Api, others: list[Door]
) -> Iterator[Door]:
    """Make the doors of the Marti API; without certificates on any door its callers need none."""
    # A revoked certificate is told so in words, and who has none may still ask for the version.
    defaults = replace(defaults, client_cert="optional", alpn=(b"http/1.1",), tells_refused=True)
    names = worker_doors(settings.marti_doors(), settings.worker)
    endpoints = [(shown_name(name), server_endpoint(reactor, name, defaults)) for name in names]
    asking = any(asks(endpoint) for endpoint in [each for _, each in endpoints] + [door.endpoint for door in others])
    anonymous = not asking if settings.anonymous_http is None else settings.anonymous_http
    for name, endpoint in endpoints:
        encrypted = getattr(endpoint, "tls", None) is not None
        auth = auth_of_requests(endpoint)
        if encrypted and auth == "cert" and not asks(endpoint):
            log.warn("{name} will let nobody in, because it asks for no certificates (clientCert=none)", name=name)
        elif not encrypted and not anonymous:
            log.warn(
                "{name} will let nobody in: without TLS callers are anonymous, and that is off; say"
                " --anonymous-http=yes (anonymous_http = yes in [dp_server]), or use ssl:",
                name=name,
            )
        lets_in = (auth != "cert" or asks(endpoint)) if encrypted else anonymous
        opened = partial(_marti_listening, name, encrypted, lets_in, api)
        yield Door(name, "Marti", endpoint, api.site(anonymous, name, auth), opened)


def _marti_listening(name: str, encrypted: bool, lets_in: bool, api: Api, port: IListeningPort) -> None:
    write_eagerly(port)
    if lets_in:
        api.addresses.opened(encrypted, port)
    if lets_in and not encrypted:
        _warn_if_open(name, port)


def datagram_doors(
    reactor: Any, settings: Settings, router: Router, connections: Connections, recorder: Recorder | None
) -> Iterator[Callable[[], IListeningPort]]:
    """Make what listens for single events by UDP and joins multicast groups."""
    if settings.udp_port is not None:
        name = f"udp:{settings.udp_port}"
        udp = CoTDatagrams(reactor, router, name, connections.notices, recorder)
        interface = settings.bind_ip or ""

        def listen_udp() -> IListeningPort:
            port: IListeningPort = reactor.listenUDP(settings.udp_port, udp, interface, MAX_DATAGRAM)
            _listening(name, "none", port)
            return port

        yield listen_udp
    for spec in settings.multicast:
        yield partial(_join, reactor, spec, router, connections, recorder)


def _join(
    reactor: Any, spec: Any, router: Router, connections: Connections, recorder: Recorder | None
) -> IListeningPort:
    name = f"multicast {spec.group}:{spec.port}"
    group = CoTMulticast(
        reactor,
        router,
        name,
        connections.notices,
        spec.group,
        spec.port,
        spec.interface,
        spec.hears,
        spec.speaks,
        recorder,
    )
    port: IListeningPort = reactor.listenMulticast(spec.port, group, maxPacketSize=MAX_DATAGRAM, listenMultiple=True)
    log.info("{name} is joined ({direction})", name=name, direction=spec.direction)
    return port


def tls_defaults(settings: Settings) -> TLSDefaults:
    """Say what ``ssl:`` endpoints need not say themselves."""
    ssl = settings.ssl
    names = (*settings.cot_doors(), *settings.monitor_doors(), *settings.marti_doors(), *settings.enroll_doors())
    names += settings.metrics_endpoints
    register = None
    if ssl.cert_db is not None and any(name.lower().startswith(("ssl:", "taktls:")) for name in names):
        from taky_twisted.identity.revocation import Register

        register = Register(str(ssl.cert_db), must_exist=False)
    return TLSDefaults(
        private_key=_text(ssl.key),
        certificate=_text(ssl.cert),
        key_password=ssl.key_pw,
        ca_certificates=_text(ssl.ca),
        register=register,
        client_cert=ssl.client_cert,
        proxy_from=settings.proxy_from,
    )


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def shown_name(endpoint: str) -> str:
    """Name a door in the log by its kind and place; the rest may hold a password."""
    words, keys = split(endpoint)
    if len(words) > 2 and words[0].lower() == "haproxy":
        return ":".join(words[:3])
    if len(words) > 1 or "inner" not in keys:
        return ":".join(endpoint.split(":")[:2])
    return f"{words[0]}:{shown_name(keys['inner'])}"


def _listening(name: str, auth: Auth, port: IListeningPort) -> None:
    """Make a stream port quick, and say so if anybody at all may come in."""
    write_eagerly(port)
    if auth in ("none", "open"):
        _warn_if_open(name, port)


def _warn_if_open(name: str, port: IListeningPort) -> None:
    host = getattr(port.getHost(), "host", None)
    if host is not None and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        log.warn(
            "anybody who reaches {host} can connect to {name} without a certificate: keep it inside a trusted network,"
            " or use ssl: with client certificates",
            name=name,
            host=host if host not in ("0.0.0.0", "::") else "this machine",
        )
