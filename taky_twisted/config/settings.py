"""What the operator wants, typed and checked: the file's word, then the command line's in its place."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Literal

from taky_twisted.config.limits import Limits
from taky_twisted.config.values import LOOPBACK, ConfigError, LogFormat, MulticastSpec, RedisSettings, TakProtocol

COT_PORT = 8087
COT_TLS_PORT = 8089
MONITOR_PORT = 8087
MARTI_PORT = 8080
MARTI_TLS_PORT = 8443
ENROLL_PORT = 8446


@dataclass(frozen=True, slots=True)
class SslSettings:
    """``[ssl]``: what TLS doors use where their endpoint strings say nothing else. No file is looked at here."""

    enabled: bool = False
    """The default CoT door speaks TLS; the other keys count for every TLS door, enabled or not."""
    expiry_message: bool = False
    """Clients whose certificate ends soon get a chat message about it."""
    client_cert_required: bool = True
    """Clients without a certificate are refused; otherwise they are asked for one, and taken without."""
    ca: Path | None = Path("/etc/taky/ssl/ca.crt")
    """The CA certificates that clients' certificates come from; None if the file says ``ca =``."""
    ca_key: Path | None = Path("/etc/taky/ssl/ca.key")
    server_p12: Path | None = Path("/etc/taky/ssl/server.p12")
    """What clients get to trust us."""
    server_p12_pw: str | None = field(default="atakatak", repr=False)
    cert: Path | None = Path("/etc/taky/ssl/server.crt")
    key: Path | None = Path("/etc/taky/ssl/server.key")
    """The key of ``cert``; None if the file says ``key =``: the key is in the certificate's file."""
    key_pw: str | None = field(default=None, repr=False)
    cert_db: Path | None = Path("/etc/taky/ssl/cert-db.txt")
    """taky's certificate register; serials marked R are refused."""

    @property
    def client_cert(self) -> Literal["required", "optional"]:
        """What endpoint strings call `client_cert_required`; taky too refuses a certificate of another CA."""
        return "required" if self.client_cert_required else "optional"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything `load` found out. Paths are absolute there; None means "not set"."""

    path: Path | None = None
    """The file that was read; None if there was none."""
    hostname: str = "taky.local"
    node_id: str = "TAKY"
    bind_ip: str | None = None
    """Where the CoT door made of `cot_port` listens; None is every IPv4 interface."""
    public_ip: str | None = None
    """How clients reach this server from outside: an address or a host name."""
    data_dir: Path = Path("taky-data")
    store: str | None = None
    """``memory:``, ``sqlite:PATH`` or ``redis:ENDPOINT``; None is SQLite in `data_dir`."""
    redis: RedisSettings = field(default_factory=lambda: RedisSettings(""))
    """User, password and database in every Redis that is named; ask `store_redis` and `bus`."""
    redis_import_groups: tuple[str, ...] | None = None
    """Whose the items are that other programs left in Redis; None is everybody's if no account has groups."""
    bus_endpoint: str | None = None
    """Where the nodes of one server meet, a Twisted client endpoint string; None: there is one node."""
    workers: int = 1
    """Processes on this machine that are one server."""
    worker: int | None = None
    """Which of them this process is; None if it is the only one, or the one that starts them (`as_worker`)."""
    site_dir: Path | None = None
    """Where what all workers share is, if that is not `data_dir`."""
    proxy_from: tuple[IPv4Network | IPv6Network, ...] = LOOPBACK
    """Load balancers whose PROXY header is believed."""
    cot_port: int | None = None
    """The port that the file names; None if it names none."""
    cot_endpoints: tuple[str, ...] = ()
    monitor_ip: str | None = None
    """Where the monitor listens; None: no monitor, unless `monitor_endpoints` names one."""
    monitor_port: int = MONITOR_PORT
    monitor_endpoints: tuple[str, ...] = ()
    admin_endpoints: tuple[str, ...] = ()
    """Unix sockets on which operators ask; empty is one in `data_dir`."""
    metrics_endpoints: tuple[str, ...] = ()
    """Where metrics and the server's health are shown; on loopback, if a string names no interface."""
    log_format: LogFormat = "text"
    pin_uid: bool = True
    """Whether a uid that somebody with a certificate was heard with is nobody else's."""
    udp_port: int | None = None
    """UDP port for single events; None is off."""
    multicast: tuple[MulticastSpec, ...] = ()
    log_cot: Path | None = None
    """Folder for a file of events per sender; None is off."""
    log_cot_bytes: int = 10 << 20
    """Size of one such file before it is rotated, in bytes."""
    log_cot_files: int = 5
    """Files per sender, the rotated ones counted."""
    max_persist_ttl: int = -1
    """Longest time that an item is retained, in seconds; -1 is until it is stale."""
    marti_endpoints: tuple[str, ...] = ()
    """Where the Marti API is served."""
    enroll_endpoints: tuple[str, ...] = ()
    """Where clients without a certificate get one."""
    anonymous_http: bool | None = None
    """Whether HTTP callers without TLS are let in; None: if no door asks for a certificate."""
    public_url: str | None = None
    """``scheme://host[:port]`` of the Marti API for clients, where it is not the address that they used."""
    upload_path: Path | None = None
    """Folder for uploaded files; None is ``dp-user`` in `data_dir`."""
    tak_protocol: TakProtocol = "auto"
    """Whether clients are offered protobuf."""
    tak_protocol_of: Mapping[str, TakProtocol] = field(default_factory=dict)
    """The same for single clients, by their certificate's name in lower case."""
    chat_fallback: bool = True
    """Deliver a chat without destinations to those its chat group lists, instead of to all."""
    ssl: SslSettings = field(default_factory=SslSettings)
    limits: Limits = field(default_factory=Limits)
    warnings: tuple[str, ...] = ()
    """What the operator should read in the log, once, at start."""

    def replaced(
        self,
        *,
        hostname: str | None = None,
        node_id: str | None = None,
        public_ip: str | None = None,
        data_dir: Path | None = None,
        store: str | None = None,
        redis_user: str | None = None,
        redis_password_file: Path | None = None,
        redis_db: int | None = None,
        redis_import_groups: tuple[str, ...] | None = None,
        bus: str | None = None,
        workers: int | None = None,
        worker: int | None = None,
        cot_endpoints: Sequence[str] = (),
        monitor_endpoints: Sequence[str] = (),
        marti_endpoints: Sequence[str] = (),
        enroll_endpoints: Sequence[str] = (),
        admin_endpoints: Sequence[str] = (),
        metrics_endpoints: Sequence[str] = (),
        log_format: LogFormat | None = None,
        pin_uid: bool | None = None,
        anonymous_http: bool | None = None,
        public_url: str | None = None,
        udp_port: int | None = None,
        tak_protocol: TakProtocol | None = None,
        multicast: Sequence[MulticastSpec] = (),
        limits: Mapping[str, float] | None = None,
    ) -> Settings:
        """Make a copy in which what the command line says stands in place of what the file says for the same thing.

        Endpoints replace the file's endpoints and its ``port`` or ``mon_ip``; groups replace all of its groups.
        Limits go by name, as `parse_limit` reads them. What is None or empty is not replaced.

        Raises:
            ConfigError: limits contradict each other, or a group is named twice.
        """
        new: dict[str, Any] = {
            "hostname": hostname,
            "node_id": node_id,
            "public_ip": public_ip,
            "data_dir": data_dir,
            "store": store,
            "redis_import_groups": redis_import_groups,
            "bus_endpoint": bus,
            "workers": workers,
            "worker": worker,
            "anonymous_http": anonymous_http,
            "pin_uid": pin_uid,
            "public_url": public_url,
            "udp_port": udp_port,
            "tak_protocol": tak_protocol,
            "log_format": log_format,
        }
        new = {name: value for name, value in new.items() if value is not None}
        access: dict[str, Any] = {"user": redis_user, "password_file": redis_password_file, "db": redis_db}
        new["redis"] = replace(self.redis, **{name: value for name, value in access.items() if value is not None})
        if cot_endpoints:
            new |= {"cot_endpoints": tuple(cot_endpoints), "cot_port": None}
        if monitor_endpoints:
            new |= {"monitor_endpoints": tuple(monitor_endpoints), "monitor_ip": None}
        if admin_endpoints:
            new["admin_endpoints"] = tuple(admin_endpoints)
        if metrics_endpoints:
            new["metrics_endpoints"] = tuple(metrics_endpoints)
        if marti_endpoints:
            new["marti_endpoints"] = tuple(marti_endpoints)
        if enroll_endpoints:
            new["enroll_endpoints"] = tuple(enroll_endpoints)
        if multicast:
            new["multicast"] = tuple(multicast)
        try:
            check_groups(multicast)
            new["limits"] = self.limits.replaced(limits or {})
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return replace(self, **new)

    @property
    def store_redis(self) -> RedisSettings | None:
        """The Redis that is the store, if one is."""
        kind, _, endpoint = (self.store or "").partition(":")
        return replace(self.redis, endpoint=endpoint) if kind == "redis" else None

    @property
    def bus(self) -> RedisSettings | None:
        """The Redis where the nodes of one server meet, if there are several."""
        return None if self.bus_endpoint is None else replace(self.redis, endpoint=self.bus_endpoint)

    @property
    def node_name(self) -> str:
        """What people call this process among the nodes of its server; it is good as a part of a file's name."""
        return self._host_name if self.worker is None else f"{self._host_name}-{self.worker}"

    @property
    def stored_as(self) -> tuple[str, ...]:
        """The names under which a store that all nodes use may have what is this process's own; the first is today's.

        The others are those that the first process of a machine had when there was another number of them. No machine
        is called as the worker of another one.
        """
        host = self._host_name
        now = "" if self.bus is None else host if self.worker is None else f"{host}_{self.worker}"
        others = (name for name in (f"{host}_1", host, "") if name != now)
        return (now, *others) if self.worker in (None, 1) else (now,)

    @property
    def shared_dir(self) -> Path:
        """Where what all workers of a site share is; the data folder, if there are none."""
        return self.site_dir if self.site_dir is not None else self.data_dir

    @property
    def _host_name(self) -> str:
        return re.sub("[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]

    def cot_doors(self) -> tuple[str, ...]:
        """Name the endpoints on which CoT clients are taken in.

        The default, tcp:8087, stands only if no door of any kind is named; ``port`` and ``[ssl] enabled`` name one.
        """
        if self.cot_endpoints:
            return self.cot_endpoints
        if self.ssl.enabled:
            asking = "" if self.ssl.client_cert_required else f":clientCert={self.ssl.client_cert}"
            return (_door("ssl", self.cot_port or COT_TLS_PORT, self.bind_ip) + asking,)
        named = self.monitor_doors() or self.marti_endpoints or self.udp_port is not None or self.multicast
        if self.cot_port is None and named:
            return ()
        return (_door("tcp", self.cot_port or COT_PORT, self.bind_ip),)

    def marti_doors(self) -> tuple[str, ...]:
        """Name the endpoints of the Marti API: by default one beside the default CoT door, of the same kind."""
        if self.marti_endpoints:
            return self.marti_endpoints
        if self.cot_endpoints or self.monitor_endpoints or self.udp_port is not None or self.multicast:
            return ()
        if self.ssl.enabled:
            return (_door("ssl", MARTI_TLS_PORT, self.bind_ip),)
        return (_door("tcp", MARTI_PORT, self.bind_ip),)

    def enroll_doors(self) -> tuple[str, ...]:
        """Name the endpoints of enrollment: by default one beside the default doors, if those speak TLS."""
        if self.enroll_endpoints:
            return self.enroll_endpoints
        named = self.cot_endpoints or self.monitor_endpoints or self.marti_endpoints
        if not self.ssl.enabled or named or self.udp_port is not None or self.multicast:
            return ()
        return (_door("ssl", ENROLL_PORT, self.bind_ip),)

    def monitor_doors(self) -> tuple[str, ...]:
        """Name the endpoints of the monitor; there is none by default."""
        if self.monitor_endpoints or self.monitor_ip is None:
            return self.monitor_endpoints
        return (_door("tcp", self.monitor_port, self.monitor_ip),)


def _door(kind: str, port: int, interface: str | None) -> str:
    """Spell an endpoint; colons of IPv6 addresses are escaped as Twisted reads them."""
    where = "" if interface is None else ":interface=" + interface.replace(":", r"\:")
    return f"{kind}:{port}{where}"


def check_groups(specs: Sequence[MulticastSpec]) -> None:
    """Raise `ValueError` if a group is named twice on one interface: its events would be taken in twice."""
    seen = set()
    for spec in specs:
        key = (spec.group, spec.port, spec.interface)
        if key in seen:
            raise ValueError(
                f"multicast group {spec.group}:{spec.port} is named twice; allowed: once, with 'both' for in and out"
            )
        seen.add(key)
