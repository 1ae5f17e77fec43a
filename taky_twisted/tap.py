"""``twistd taky``: options in, services out. The only reader of options and the only user of the global reactor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from twisted.application.service import IService, Service
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python import usage

from taky_twisted import __version__, logs
from taky_twisted.admitting import make_accounts, was_banned, watch_requests
from taky_twisted.config import (
    ConfigError,
    Settings,
    limit_options,
    load,
    parse_boolean,
    parse_group_names,
    parse_host,
    parse_limit,
    parse_log_format,
    parse_multicast,
    parse_node_id,
    parse_port,
    parse_redis_db,
    parse_redis_endpoint,
    parse_store,
    parse_tak_protocol,
    parse_url,
    parse_worker,
    parse_workers,
    without_password,
)
from taky_twisted.config.workers import as_worker, check_workers
from taky_twisted.data_folder import DataFolder
from taky_twisted.doors import Doors
from taky_twisted.endpoints.shared import worker_doors
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
from taky_twisted.signals import Signals
from taky_twisted.stores import open_store
from taky_twisted.streaming.connections import Connections
from taky_twisted.supervised import Supervised
from taky_twisted.timekeeping import Timekeeping

log = logs.Logger()

_TEXTS: dict[str, tuple[Callable[[str], Any], str]] = {
    "data-dir": (Path, "Folder for what must survive a restart; else root_dir of taky.conf, else ./taky-data."),
    "store": (
        parse_store,
        "Where the picture is kept: sqlite:PATH, memory: or redis:ENDPOINT; SQLite in the data folder by default.",
    ),
    "bus": (parse_redis_endpoint, "Redis where the nodes of one server meet, redis:ENDPOINT; there is one by default."),
    "workers": (
        parse_workers,
        "With `taky`: start so many processes that are one server; they need a bus, and share TCP ports. [default: 1]",
    ),
    "worker": (parse_worker, "Be this one of several processes, 1 to 64, which somebody else starts; it needs a bus."),
    "redis-user": (str, "ACL user in Redis; by default Redis' default user."),
    "redis-password-file": (Path, "File with the password for Redis, which only the server's user can read."),
    "redis-db": (parse_redis_db, "Database in Redis. [default: 0]"),
    "redis-import-groups": (
        parse_group_names,
        "Whose what other programs left in Redis is: groups with commas, or none; default: all's if none has groups.",
    ),
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
    "log-format": (parse_log_format, "text for people, or json for programs, one object a line. [default: text]"),
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
    worker_command: Sequence[str] = ()
    """What starts one more process like this, if this one may start workers; ``--worker=K`` is put behind it."""
    exit_status = 0
    """What the process ends with when the reactor has stopped."""

    def __init__(self) -> None:
        super().__init__()
        self._cot: list[str] = []
        self._monitor: list[str] = []
        self._marti: list[str] = []
        self._enroll: list[str] = []
        self._admin: list[str] = []
        self._metrics: list[str] = []
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

    def opt_metrics_endpoint(self, description: str) -> None:
        """Show metrics (Prometheus) and /health here, read-only; on loopback without interface=. May be repeated."""
        self._metrics.append(description)

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
                metrics_endpoints=self._metrics,
                multicast=self._multicast,
                limits=limits,
                **texts,
            )
            check_workers(self.settings)
            if self.settings.worker is not None:
                self.settings = as_worker(self.settings, self.settings.worker)
        except ConfigError as error:
            raise SystemExit(f"taky: {error}") from error
        if self.settings.log_format == "json":
            self._log_json()

    def _log_json(self) -> None:
        from taky_twisted.json_logs import NoPlace, choose

        def in_reactor(call: Callable[[], object]) -> None:
            from twisted.internet import reactor

            cast(IReactorFromThreads, reactor).callFromThread(call)

        if self.parent is None:
            return  # nobody logs
        try:
            self.parent["logger"] = choose(self.parent, in_reactor)
        except NoPlace as error:
            raise SystemExit(f"taky: log_format = json: {error}") from error

    def parseArgs(self, *rest: str) -> None:
        if rest:
            raise usage.UsageError(f"{rest[0]!r} is not an option")

    def _value(self, name: str, parse: Callable[[str], Any], text: str | None) -> Any:
        if text is None:
            return None
        try:
            return parse(text)
        except ValueError as error:
            raise usage.UsageError(f"--{name}={without_password(text)}: {error}") from error


def makeService(options: Options) -> IService:
    """Assemble a server that is not started yet.

    Raises:
        SystemExit: the settings cannot be used; the text says what to change.
    """
    from twisted.internet import reactor

    if options.settings.workers > 1 and options.settings.worker is None:
        return _supervisor(reactor, options)
    try:
        return make_server(reactor, options.settings)
    except (EndpointError, StoreError) as error:
        raise SystemExit(f"taky: {error}") from error


def _supervisor(reactor: Any, options: Options) -> IService:
    from taky_twisted.supervising import Supervisor  # only where it is wanted

    if not options.worker_command:
        raise SystemExit(
            f"taky: twistd runs one process, and workers = {options.settings.workers}: `taky` starts several, or start"
            " each by itself and say which it is with --worker (takyctl systemd makes units that do)"
        )

    def failed() -> None:
        options.exit_status = 1

    return Supervisor(reactor, options.worker_command, options.settings.workers, failed)


def make_server(reactor: Any, settings: Settings) -> Server:
    """Wire everything together.

    Raises:
        EndpointError: an endpoint string, or a file that it names, cannot be used.
        StoreError: the store cannot be used.
    """
    for warning in settings.warnings:
        log.warn("{problem}", problem=warning)
    data_dir = settings.data_dir.absolute()  # twistd changes the working directory
    folder = DataFolder(data_dir, settings.shared_dir.absolute())
    redis, groups = settings.store_redis, settings.redis_import_groups
    node, *former = settings.stored_as
    store = open_store(settings.store, data_dir, reactor, redis, settings.hostname, groups, node, former)
    sharing = None
    if settings.bus is not None:
        from taky_twisted.sharing import Sharing  # only where there are several nodes: it costs memory

        sharing = Sharing(reactor, settings, store, folder)
        store = sharing.store
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
    # Workers share TCP ports; what can be opened only once is for the first.
    first = settings.worker in (None, 1)
    datagrams = list(datagram_doors(reactor, settings, router, connections, recorder)) if first else []
    api = None
    enrolling = _enroll_names(settings)
    if settings.marti_doors() or enrolling:
        from taky_twisted.api import Api  # only where it is served: it costs memory
        from taky_twisted.enrolling import enroll_doors

        api = Api(reactor, settings, folder, store, router, recorder, failures, accounts, was_banned(defaults.register))
        watch_requests(accounts, api)
        doors += marti_doors(reactor, settings, defaults, api, doors)
        doors += enroll_doors(reactor, enrolling, defaults, api, shown_name)
    watching = None
    if settings.metrics_endpoints:
        from taky_twisted.watching import Watching  # only where it is wanted: it costs memory

        watching = Watching(reactor, settings, store, router, connections, failures, api)
        doors += watching.doors(defaults)
    tls = [mutual for door in doors if (mutual := getattr(door.endpoint, "tls", None)) is not None]

    def close_refused() -> None:
        connections.close_refused()
        if api is not None:
            api.close_refused()
        if sharing is not None:
            sharing.reloaded()

    reloading = Reloading(reactor, tls, close_refused)
    if sharing is not None:
        sharing.join(router, accounts, api, reloading, tls)
    if api is not None:
        api.enrolling.reload = reloading.reload
    opened = Doors(doors, datagrams, others_listen=settings.worker is not None)
    joining = None
    if settings.bus is not None:
        from taky_twisted.joining import join_nodes  # only where there are several: it costs memory

        joining = join_nodes(reactor, settings, data_dir, router, connections, api)
    sockets = admin_sockets(
        reactor, settings, data_dir, router, connections, failures, reloading, opened, tls, api, accounts, joining
    )

    def clock_was_set(seconds: float) -> None:
        for contact in router.contacts:
            contact.seen += seconds
        if watching is not None:
            watching.pulse.jumped(seconds)

    keeping = Timekeeping(reactor, [clock_was_set])
    more: tuple[Service, ...] = (sockets, Notifying(reactor), keeping)
    if settings.worker is not None:
        more = (*more, Supervised(reactor, Signals(reactor).stop_reactor))
    if watching is not None:
        watching.opened(opened, doors)
        if joining is not None:
            watching.watched.bus, watching.watched.words = joining.bus, joining.bus.tally
        more = (watching, *more)
    groundwork = [work for work in (keeping, sharing, joining) if work is not None]
    return Server(
        reactor, folder, store, router, recorder, connections, opened, reloading, api, more, accounts, groundwork
    )


def _enroll_names(settings: Settings) -> tuple[str, ...]:
    if not settings.enroll_doors():
        return ()
    from taky_twisted.enrolling import enroll_names

    return worker_doors(enroll_names(settings), settings.worker)
