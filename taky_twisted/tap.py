"""``twistd taky``: options in, services out. The only reader of options and the only user of the global reactor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from taky_twisted import __version__, logs
from taky_twisted.admitting import make_accounts, was_banned, watch_requests
from taky_twisted.config import (
    ConfigError,
    Settings,
    limit_options,
    load,
    parse_boolean,
    parse_host,
    parse_limit,
    parse_multicast,
    parse_node_id,
    parse_port,
    parse_store,
    parse_tak_protocol,
    parse_url,
)
from taky_twisted.data_folder import DataFolder
from taky_twisted.doors import Doors
from taky_twisted.identity.errors import EndpointError
from taky_twisted.identity.failures import Failures
from taky_twisted.interfaces import StoreError
from taky_twisted.notify import Notifying
from taky_twisted.opening import datagram_doors, marti_doors, shown_name, stream_doors, tls_defaults
from taky_twisted.operating import admin_sockets
from taky_twisted.reloading import Reloading
from taky_twisted.routing.recorder import Recorder
from taky_twisted.routing.router import Router
from taky_twisted.server import Server
from taky_twisted.stores import open_store
from taky_twisted.streaming.connections import Connections

log = logs.Logger()

_TEXTS: dict[str, tuple[Callable[[str], Any], str]] = {
    "data-dir": (Path, "Folder for what must survive a restart; else root_dir of taky.conf, else ./taky-data."),
    "store": (parse_store, "Where the picture is kept: sqlite:PATH or memory:; SQLite in the data folder by default."),
    "hostname": (parse_host, "The server's name."),
    "public-ip": (parse_host, "How clients reach this server from outside."),
    "public-url": (parse_url, "How clients reach the Marti API from outside, http[s]://HOST:PORT."),
    "anonymous-http": (
        parse_boolean,
        "yes or no: let HTTP callers in without TLS; by default if no door wants certificates.",
    ),
    "node-id": (parse_node_id, "The server's name among servers."),
    "tak-protocol": (parse_tak_protocol, "auto offers protobuf to clients, xml does not."),
    "pin-uid": (
        parse_boolean,
        "yes or no: a uid heard from somebody with a certificate is nobody else's for a minute. [default: yes]",
    ),
    "udp-port": (parse_port, "Take in single events by UDP on this port; off by default."),
}


class Options(usage.Options):
    """A TAK server; by default CoT on TCP port 8087, HTTP on 8080, and what it must keep in ./taky-data."""

    optParameters = [
        ["config", "c", None, "taky.conf to read; else ./taky.conf, else /etc/taky/taky.conf, else defaults."],
        ["log-level", "l", "info", "debug, info, warning, error or critical."],
        *([name, None, None, doc] for name, (_, doc) in _TEXTS.items()),
        *(
            [name.replace("_", "-"), None, None, f"{doc} [default: {default}]"]
            for name, default, doc in limit_options()
        ),
    ]

    settings: Settings

    def __init__(self) -> None:
        super().__init__()
        self._cot: list[str] = []
        self._monitor: list[str] = []
        self._marti: list[str] = []
        self._enroll: list[str] = []
        self._admin: list[str] = []
        self._multicast: list[Any] = []

    def opt_cot_endpoint(self, description: str) -> None:
        """Serve CoT streams here (a Twisted endpoint string; ssl: is mutual TLS). May be repeated."""
        self._cot.append(description)

    def opt_monitor_endpoint(self, description: str) -> None:
        """Show all that is routed here, and take in events. May be repeated."""
        self._monitor.append(description)

    def opt_marti_endpoint(self, description: str) -> None:
        """Serve the Marti API (HTTP: data packages, contacts, video, ...) here. May be repeated."""
        self._marti.append(description)

    def opt_enroll_endpoint(self, description: str) -> None:
        """Give certificates to clients here, for a password or an invite (ssl: only). May be repeated."""
        self._enroll.append(description)

    def opt_admin_endpoint(self, description: str) -> None:
        """Serve operators (takyctl) on this unix socket, unix:PATH; by default in the data folder. May be repeated."""
        self._admin.append(description)

    def opt_multicast(self, description: str) -> None:
        """Join a group: GROUP:PORT[:INTERFACE][:in|out|both]. May be repeated."""
        self._multicast.append(self._value("multicast", parse_multicast, description))

    def opt_version(self) -> None:
        """Print the version and exit."""
        print(f"taky_twisted {__version__}")
        raise SystemExit(0)

    def parseOptions(self, options: Any = None) -> None:
        # twistd would print its whole usage and exit with 0: an operator needs one line, and systemd a failure.
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            raise SystemExit(f"taky: {error} (--help lists the options)") from error

    def postOptions(self) -> None:
        self._value("log-level", logs.set_level, self["log-level"])
        texts = {name.replace("-", "_"): self._value(name, parse, self[name]) for name, (parse, _) in _TEXTS.items()}
        given = {name: self[name.replace("_", "-")] for name, _, _ in limit_options()}
        limits = {
            name: self._value(name.replace("_", "-"), partial(parse_limit, name), text)
            for name, text in given.items()
            if text is not None
        }
        try:
            settings = load(self["config"])
            self.settings = settings.replaced(
                cot_endpoints=self._cot,
                monitor_endpoints=self._monitor,
                marti_endpoints=self._marti,
                enroll_endpoints=self._enroll,
                admin_endpoints=self._admin,
                multicast=self._multicast,
                limits=limits,
                **texts,
            )
        except ConfigError as error:
            raise SystemExit(f"taky: {error}") from error

    def parseArgs(self, *rest: str) -> None:
        if rest:
            raise usage.UsageError(f"{rest[0]!r} is not an option")

    def _value(self, name: str, parse: Callable[[str], Any], text: str | None) -> Any:
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            raise usage.UsageError(f"--{name}={text}: {error}") from error


def makeService(options: Options) -> IService:
    """Assemble a server that is not started yet.

    Raises:
        SystemExit: the settings cannot be used; the text says what to change.
    """
    from twisted.internet import reactor

    try:
        return make_server(reactor, options.settings)
    except (EndpointError, StoreError) as error:
        raise SystemExit(f"taky: {error}") from error


def make_server(reactor: Any, settings: Settings) -> Server:
    """Wire everything together.

    Raises:
        EndpointError: an endpoint string, or a file that it names, cannot be used.
        StoreError: the store cannot be used.
    """
    for warning in settings.warnings:
        log.warn("{problem}", problem=warning)
    data_dir = settings.data_dir.absolute()  # twistd changes the working directory
    folder = DataFolder(data_dir)
    store = open_store(settings.store, data_dir, reactor)
    failures = Failures(reactor)
    router = Router(
        reactor,
        store,
        settings.limits,
        settings.max_persist_ttl,
        settings.chat_fallback,
        failures=failures,
        pin_uid=settings.pin_uid,
    )
    recorder = (
        Recorder(settings.log_cot, reactor, max_bytes=settings.log_cot_bytes, files=settings.log_cot_files)
        if settings.log_cot is not None
        else None
    )
    connections = Connections(reactor, settings.limits, failures, settings.ssl.expiry_message)
    defaults = tls_defaults(settings)
    accounts = make_accounts(reactor, store, router, defaults.register)
    doors = list(stream_doors(reactor, settings, defaults, router, connections, recorder, accounts))
    datagrams = list(datagram_doors(reactor, settings, router, connections, recorder))
    api = None
    enrolling = _enroll_names(settings)
    if settings.marti_doors() or enrolling:
        from taky_twisted.api import Api  # only where it is served: it costs memory
        from taky_twisted.enrolling import enroll_doors

        api = Api(reactor, settings, folder, store, router, recorder, failures, accounts, was_banned(defaults.register))
        watch_requests(accounts, api)
        doors += marti_doors(reactor, settings, defaults, api, doors)
        doors += enroll_doors(reactor, enrolling, defaults, api, shown_name)
    tls = [mutual for door in doors if (mutual := getattr(door.endpoint, "tls", None)) is not None]

    def close_refused() -> None:
        connections.close_refused()
        if api is not None:
            api.close_refused()

    reloading = Reloading(reactor, tls, close_refused)
    if api is not None:
        api.enrolling.reload = reloading.reload
    opened = Doors(doors, datagrams)
    sockets = admin_sockets(
        reactor, settings, data_dir, router, connections, failures, reloading, opened, tls, api, accounts
    )
    more = (sockets, Notifying(reactor))
    return Server(reactor, folder, store, router, recorder, connections, opened, reloading, api, more, accounts)


def _enroll_names(settings: Settings) -> tuple[str, ...]:
    if not settings.enroll_doors():
        return ()
    from taky_twisted.enrolling import enroll_names

    return enroll_names(settings)
