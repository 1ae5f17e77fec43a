from __future__ import annotations

import contextlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from twisted.application.service import IService
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.logger import LogLevel
from twisted.plugins.taky_plugin import taky as service_maker
from twisted.scripts.twistd import ServerOptions  # type: ignore[attr-defined] # public, but not in its __all__
from twisted.trial.unittest import SynchronousTestCase, TestCase

from taky_twisted import __version__, json_logs, logs, tap
from taky_twisted.cli.taky import ForegroundOptions
from taky_twisted.config import Settings
from taky_twisted.config.limits import LIMITS, Limits
from taky_twisted.endpoints import DoorEndpoint
from taky_twisted.endpoints.shared_port import SharedPortEndpoint
from taky_twisted.server import CannotStart, Server
from taky_twisted.streaming.datagrams import CoTDatagrams, CoTMulticast
from taky_twisted.streaming.factory import CoTFactory
from taky_twisted.streaming.transport import EagerServer
from taky_twisted.supervising import Supervisor
from taky_twisted.tap import Options, makeService
from tests.fakes import LogLines
from tests.pki import PKI
from tests.ports import free_port
from tests.test_doors import OpenPort


class TapTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(logs.set_level, "info")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        before = Path.cwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.folder)

    def conf(self, text: str = "") -> str:
        """Write a taky.conf; return the option that names it."""
        (self.folder / "site.conf").write_text(text)
        return f"--config={self.folder / 'site.conf'}"

    def options(self, *arguments: str, conf: str = "") -> Options:
        """Read a command line."""
        options = Options()
        options.parseOptions([self.conf(conf), *arguments])
        return options

    def settings(self, *arguments: str, conf: str = "") -> Settings:
        """Read a command line; return what it means."""
        return self.options(*arguments, conf=conf).settings

    def refused(self, *arguments: str, conf: str = "") -> str:
        """Read a command line that cannot be used; return the one line for the operator."""
        with self.assertRaises(SystemExit) as end:
            self.options(*arguments, conf=conf)
        return self.one_line(end.exception)

    def one_line(self, end: SystemExit) -> str:
        """Check that a program ends with status 1 and one line; return that."""
        text = end.code
        assert isinstance(text, str), f"exit status {text!r} without a text"
        self.assertTrue(text.startswith("taky: "), text)
        self.assertNotIn("\n", text)
        return text


class OptionsTests(TapTestCase):
    def test_every_option(self) -> None:
        """Every option is understood and ends up where it belongs."""
        settings = self.settings(
            "--data-dir=data",
            "--store=memory:",
            "--hostname=tak.example",
            "--public-ip=203.0.113.5",
            "--node-id=NODE-1",
            "--udp-port=8087",
            "--cot-endpoint=tcp:1",
            "--cot-endpoint=tcp:2",
            "--monitor-endpoint=tcp:3",
            "--monitor-endpoint=tcp:4",
            "--marti-endpoint=tcp:5",
            "--marti-endpoint=ssl:6",
            "--anonymous-http=yes",
            "--public-url=https://tak.example:8443",
            "--multicast=239.2.3.1:6969",
            "--multicast=239.2.3.2:6969:127.0.0.1:both",
            "--log-level=warning",
        )
        self.assertEqual(settings.data_dir, Path("data"))
        self.assertEqual((settings.store, settings.hostname), ("memory:", "tak.example"))
        self.assertEqual((settings.public_ip, settings.node_id, settings.udp_port), ("203.0.113.5", "NODE-1", 8087))
        self.assertEqual(settings.cot_doors(), ("tcp:1", "tcp:2"))
        self.assertEqual(settings.monitor_doors(), ("tcp:3", "tcp:4"))
        self.assertEqual(settings.marti_doors(), ("tcp:5", "ssl:6"))
        self.assertEqual((settings.anonymous_http, settings.public_url), (True, "https://tak.example:8443"))
        self.assertEqual(
            [(spec.group, spec.direction) for spec in settings.multicast], [("239.2.3.1", "in"), ("239.2.3.2", "both")]
        )

    def test_watching(self) -> None:
        """Where metrics are shown, and how the log is written, is said on the command line or in the file."""
        settings = self.settings()
        self.assertEqual((settings.metrics_endpoints, settings.log_format), ((), "text"))
        conf = "[taky]\nmetrics_endpoints = tcp:1\n  tcp:2\nlog_format = json\n"
        settings = self.settings(conf=conf)
        self.assertEqual((settings.metrics_endpoints, settings.log_format), (("tcp:1", "tcp:2"), "json"))
        settings = self.settings("--metrics-endpoint=tcp:3", "--log-format=TEXT", conf=conf)
        self.assertEqual((settings.metrics_endpoints, settings.log_format), (("tcp:3",), "text"))
        self.assertIn("--log-format=xml: not a format of the log", self.refused("--log-format=xml"))

    def test_json_log(self) -> None:
        """It is decided at the start who writes the log; where it cannot be written, one line says why."""
        self.patch(json_logs, "_where", json_logs._where)
        calls: list[str] = []
        for twistd in (ServerOptions(), ForegroundOptions()):
            options = Options()
            options.parent = twistd
            twistd.opts.update(nodaemon=1, logfile=None)
            options.parseOptions([self.conf(), "--log-format=json"])
            self.assertEqual(twistd["logger"], "taky_twisted.json_logs.observer")
        _, in_reactor = json_logs._where
        self.patch(reactor, "callFromThread", lambda call: call())
        in_reactor(lambda: calls.append("rotated"))
        self.assertEqual(calls, ["rotated"])
        options.parent = ServerOptions()
        options.parent["syslog"] = 1
        with self.assertRaises(SystemExit) as end:
            options.parseOptions([self.conf(), "--log-format=json"])
        self.assertIn("log_format = json: the system's log takes no JSON", self.one_line(end.exception))

    def test_operators(self) -> None:
        """Where operators ask, and whether uids are pinned, is said on the command line or in the file."""
        settings = self.settings()
        self.assertEqual((settings.admin_endpoints, settings.pin_uid), ((), True))
        conf = "[taky]\nadmin_endpoints = unix:/a\n  unix:/b\n[cot_server]\npin_uid = off\n"
        settings = self.settings(conf=conf)
        self.assertEqual((settings.admin_endpoints, settings.pin_uid), (("unix:/a", "unix:/b"), False))
        settings = self.settings("--admin-endpoint=unix:/c", "--pin-uid=yes", conf=conf)
        self.assertEqual((settings.admin_endpoints, settings.pin_uid), (("unix:/c",), True))
        options = self.options("--cot-endpoint=tcp:0", "--admin-endpoint=tcp:9000")
        with self.assertRaises(SystemExit) as end:
            makeService(options)
        self.assertIn("operators are served on a unix socket only", self.one_line(end.exception))

    def test_pinned(self) -> None:
        """Uids are pinned unless that is switched off; what is refused is what operators are shown."""
        for said, pinned in (("yes", True), ("no", False)):
            server = makeService(self.options("--cot-endpoint=tcp:0", f"--pin-uid={said}"))
            assert isinstance(server, Server)
            self.assertEqual(server.router.pins is not None, pinned)
            if server.router.pins is not None:
                self.assertIs(server.router.pins._failures, server.connections.failures)

    def test_short_options(self) -> None:
        """The short spellings of taky are understood."""
        options = Options()
        options.parseOptions(["-c", self.conf("[taky]\nhostname = short.example\n")[len("--config=") :], "-l", "debug"])
        self.assertEqual((options.settings.hostname, options["log-level"]), ("short.example", "debug"))

    def test_every_limit(self) -> None:
        """Every limit is an option, spelled with hyphens."""
        for field in fields(Limits):
            low = LIMITS[field.name].low
            other = LIMITS[field.name].default + (1 if LIMITS[field.name].default < LIMITS[field.name].high else -1)
            arguments = [
                f"--{field.name.replace('_', '-')}={other:g}"
                if other < 1e6
                else f"--{field.name.replace('_', '-')}={int(other)}"
            ]
            if field.name == "max_event_to_client":
                arguments.append("--outbox-bytes=2M")
            if field.name == "max_unidentified_bytes":
                arguments.append("--max-event-bytes=9M")
            self.assertEqual(getattr(self.settings(*arguments).limits, field.name), other, field.name)
            self.assertGreaterEqual(other, low)

    def test_bad_values(self) -> None:
        """A bad value of any option is one line: the option, the value, and what is allowed."""
        for argument, words in (
            ("--store=redis:6379", "allowed: redis:tcp:HOST:PORT"),
            ("--store=nothing", "allowed: memory:, sqlite:PATH"),
            ("--bus=tcp:localhost:6379", "allowed: redis:tcp:HOST:PORT"),
            ("--redis-db=many", "allowed: a whole number"),
            ("--redis-import-groups=,", "allowed: names"),
            ("--hostname=tak server", "allowed: letters"),
            ("--public-ip=?", "allowed: letters"),
            ("--node-id=<1>", "allowed: 1 to 64 letters"),
            ("--udp-port=0", "allowed: a whole number from 1 to 65535"),
            ("--udp-port=http", "allowed: a whole number from 1 to 65535"),
            ("--multicast=10.0.0.1:6969", "not an IPv4 multicast address"),
            ("--multicast=239.2.3.1", "allowed: GROUP:PORT"),
            ("--log-level=loud", "allowed: debug, info"),
            *((f"--{name.replace('_', '-')}=x", "allowed: ") for name in LIMITS if LIMITS[name].unit != "bytes"),
            *((f"--{name.replace('_', '-')}=x", "not a size") for name in LIMITS if LIMITS[name].unit == "bytes"),
        ):
            text = self.refused(argument)
            self.assertIn(words, text)
            self.assertIn(argument.partition("=")[2], text)
            self.assertIn(argument.partition("=")[0], text)

    def test_bad_command_lines(self) -> None:
        """So is an option that there is not, one without its value, and a word that is no option."""
        self.assertIn("no-such-option", self.refused("--no-such-option"))
        self.assertIn("data-dir", self.refused("--data-dir"))
        self.assertIn("--help lists the options", self.refused("stray"))

    def test_bad_combinations(self) -> None:
        """So are values that contradict each other."""
        self.assertIn("outbox_bytes", self.refused("--outbox-bytes=2048", "--max-event-to-client=4096"))
        self.assertIn("named twice", self.refused("--multicast=239.2.3.1:6969", "--multicast=239.2.3.1:6969:out"))

    def test_bad_files(self) -> None:
        """So is anything wrong with taky.conf, with the file's name in it."""
        for conf, words in (
            ("[taky]\nhostnam = x\n", "hostnam"),
            ("[nothing]\n", "nothing"),
            ("[cot_server]\nport = http\n", "port"),
            ("[cot_server]\nport = 8087\nendpoints = tcp:8088\n", "cannot stand beside"),
            ("[taky]\nstore = redis:localhost\n", "allowed: redis:tcp:HOST:PORT"),
            ("[limits]\nmax_connections = many\n", "max_connections"),
        ):
            text = self.refused(conf=conf)
            self.assertIn("site.conf", text)
            self.assertIn(words, text)
        with self.assertRaises(SystemExit) as end:
            Options().parseOptions(["--config=missing.conf"])
        self.assertIn("missing.conf: there is no such file", self.one_line(end.exception))

    def test_default_doors(self) -> None:
        """TCP port 8087 is served only if no door of any kind is named."""
        self.assertEqual(self.settings().cot_doors(), ("tcp:8087",))
        self.assertEqual(self.settings("--cot-endpoint=tcp:1").cot_doors(), ("tcp:1",))
        for argument in ("--monitor-endpoint=tcp:1", "--udp-port=1", "--multicast=239.2.3.1:6969"):
            self.assertEqual(self.settings(argument).cot_doors(), ())
        self.assertEqual(self.settings("--udp-port=1", conf="[cot_server]\nport = 9000\n").cot_doors(), ("tcp:9000",))

    def test_command_line_first(self) -> None:
        """The command line replaces what the file says for the same thing; the rest of the file counts."""
        conf = (
            "[taky]\nhostname = file.example\nnode_id = FILE\nstore = memory:\n"
            "[cot_server]\nendpoints =\n tcp:1\n tcp:2\nmonitor_endpoints = tcp:3\nudp_port = 4\n"
            "multicast = 239.2.3.1:6969\n[limits]\nmax_connections = 5\nmax_per_address = 6\n"
        )
        settings = self.settings(
            "--hostname=line.example",
            "--cot-endpoint=tcp:7",
            "--multicast=239.9.9.9:6969",
            "--max-connections=8",
            conf=conf,
        )
        self.assertEqual((settings.hostname, settings.node_id, settings.store), ("line.example", "FILE", "memory:"))
        self.assertEqual((settings.cot_doors(), settings.monitor_doors()), (("tcp:7",), ("tcp:3",)))
        self.assertEqual((settings.udp_port, [spec.group for spec in settings.multicast]), (4, ["239.9.9.9"]))
        self.assertEqual((settings.limits.max_connections, settings.limits.max_per_address), (8, 6))

    def test_port_replaced(self) -> None:
        """An endpoint on the command line replaces the file's port."""
        self.assertEqual(
            self.settings("--cot-endpoint=tcp:7", conf="[cot_server]\nport = 9000\n").cot_doors(), ("tcp:7",)
        )

    def test_file_beside_us(self) -> None:
        """Without --config the taky.conf of the working directory counts."""
        (self.folder / "taky.conf").write_text("[taky]\nhostname = beside.example\n")
        options = Options()
        options.parseOptions([])
        self.assertEqual(options.settings.hostname, "beside.example")

    def test_log_level(self) -> None:
        """The level counts for everything that is logged from then on."""
        lines = LogLines(self)
        self.options("--log-level=error")
        tap.log.warn("not seen")
        tap.log.error("seen")
        self.assertEqual(lines(), ["seen"])

    def printed(self, *arguments: str) -> str:
        """Read a command line that ends the program with success; return what it printed."""
        output = io.StringIO()
        with contextlib.redirect_stdout(output), self.assertRaises(SystemExit) as end:
            Options().parseOptions(arguments)
        self.assertIn(end.exception.code, (None, 0))
        return output.getvalue()

    def test_version(self) -> None:
        """--version is ours."""
        self.assertEqual(self.printed("--version"), f"taky_twisted {__version__}\n")

    def test_help(self) -> None:
        """--help shows every limit with its unit and its default."""
        text = " ".join(self.printed("--help").split())
        self.assertIn("--max-connections= [connections] A further connection is closed", text)
        self.assertIn("[default: 10000]", text)
        for name in LIMITS:
            self.assertIn(f"--{name.replace('_', '-')}=", text)


class MakeServiceTests(TapTestCase):
    """From options to a service, without starting it."""

    def make(self, *arguments: str, conf: str = "") -> Server:
        """Make a server that is not started."""
        service = makeService(self.options(f"--data-dir={self.folder}/data", *arguments, conf=conf))
        assert isinstance(service, Server)
        return service

    def cannot(self, *arguments: str, conf: str = "") -> str:
        """Fail to make a server; return the one line for the operator."""
        with self.assertRaises(SystemExit) as end:
            self.make(*arguments, conf=conf)
        return self.one_line(end.exception)

    def factories(self, server: Server) -> Iterator[CoTFactory]:
        """Go through the stream doors."""
        for door in server.doors._doors:
            if door.what != "Marti":
                assert isinstance(door.factory, CoTFactory)
                yield door.factory

    def test_plugin(self) -> None:
        """What twistd loads is this."""
        self.assertIs(service_maker.options, Options)
        self.assertIs(service_maker.makeService, makeService)
        self.assertTrue(IService.providedBy(self.make("--store=memory:")))

    def test_touches_nothing(self) -> None:
        """Making a server opens no port and makes no folder."""
        server = self.make()
        self.assertEqual(server.doors.ports, [])
        self.assertFalse((self.folder / "data").exists())

    def test_doors(self) -> None:
        """Every endpoint becomes a door, whose name in the log has no secrets."""
        pki = PKI(self.folder / "pki")
        server = self.make(
            "--cot-endpoint=tcp:8087:interface=127.0.0.1",
            f"--cot-endpoint={pki.endpoint('ssl:8089', keyPassword='secret')}",
            "--monitor-endpoint=tcp:8090",
            f"--monitor-endpoint={pki.endpoint('ssl:8091')}",
        )
        self.assertEqual(
            [(door.what, door.name) for door in server.doors._doors],
            [("CoT", "tcp:8087"), ("CoT", "ssl:8089"), ("monitor", "tcp:8090"), ("monitor", "ssl:8091")],
        )
        factories = list(self.factories(server))
        self.assertEqual([factory.monitor for factory in factories], [False, False, True, True])
        self.assertEqual([factory._tls for factory in factories], [False, True, False, True])
        self.assertEqual([tls.settings.client_cert for tls in server._reloading._tls], ["required", "required"])

    def test_site(self) -> None:
        """In a taky site ssl:PORT is enough: the rest comes from [ssl], also for the monitor."""
        pki = PKI(self.folder / "pki")
        conf = (
            f"[ssl]\nenabled = true\nca = {pki.ca_path}\ncert = {pki.certificate_path}\nkey = {pki.key_path}\n"
            f"cert_db = {pki.register_path}\n"
        )
        for arguments in (
            (),
            ("--cot-endpoint=ssl:8090",),
            ("--cot-endpoint=tcp:1", "--monitor-endpoint=SSL:8090"),
            ("--cot-endpoint=tcp:1", "--marti-endpoint=ssl:8443"),
        ):
            server = self.make(*arguments, conf=conf)
            (register,) = {tls.settings.register for tls in server._reloading._tls}  # one for all doors
            assert register is not None
            self.assertEqual(len(register), 1)
        self.assertEqual([door.name for door in self.make(conf=conf).doors._doors], ["ssl:8089", "ssl:8443"])
        without = self.make(conf=conf.replace(f"cert_db = {pki.register_path}", "cert_db ="))
        self.assertIsNone(without._reloading._tls[0].settings.register)

    def test_no_client_certificates(self) -> None:
        """With taky's ``client_cert_required = false`` a client is asked for a certificate and taken without."""
        pki = PKI(self.folder / "pki")
        conf = (
            f"[ssl]\nenabled = true\nclient_cert_required = false\nca = {pki.ca_path}\n"
            f"cert = {pki.certificate_path}\nkey = {pki.key_path}\n"
        )
        cot, _ = self.make(conf=conf)._reloading._tls
        self.assertEqual(cot.settings.client_cert, "optional")

    def sites(self, *arguments: str, conf: str = "") -> list[tuple[str, bool]]:
        """Make a server; say of its HTTP doors whether anonymous callers are let in where there is no TLS."""
        doors = self.make(*arguments, conf=conf).doors._doors
        return [(door.name, door.factory.anonymous) for door in doors if door.what == "Marti"]  # type: ignore[attr-defined]

    def test_marti(self) -> None:
        """A default server has an HTTP door; each may have its own endpoint, also two alike."""
        self.assertEqual(self.sites(), [("tcp:8080", True)])
        self.assertEqual(self.sites("--cot-endpoint=tcp:1"), [])
        self.assertEqual(self.sites("--marti-endpoint=tcp:0", "--marti-endpoint=tcp:0"), [("tcp:0", True)] * 2)

    def test_marti_tls(self) -> None:
        """On an HTTP door certificates are optional, and a revoked one is told so, whatever CoT doors want."""
        pki = PKI(self.folder / "pki")
        server = self.make(
            f"--cot-endpoint={pki.endpoint('ssl:8089')}",
            f"--marti-endpoint={pki.endpoint('ssl:8443')}",
            f"--marti-endpoint={pki.endpoint('ssl:8444', clientCert='required')}",
        )
        cot, optional, required = (tls.settings for tls in server._reloading._tls)
        self.assertEqual((cot.client_cert, cot.tells_refused), ("required", False))
        self.assertEqual((optional.client_cert, optional.tells_refused), ("optional", True))
        self.assertEqual((required.client_cert, required.tells_refused), ("required", True))
        self.assertEqual(optional.alpn, (b"http/1.1",))

    def test_anonymous_http(self) -> None:
        """Without TLS HTTP callers are let in if no door of any kind asks for certificates, or if somebody says so."""
        pki = PKI(self.folder / "pki")
        cot = f"--cot-endpoint={pki.endpoint('ssl:8089')}"
        for clients, anonymous in (("required", False), ("optional", False), ("none", True)):
            for kind in ("cot", "monitor", "marti"):
                other = f"--{kind}-endpoint={pki.endpoint('ssl:1', clientCert=clients)}"
                self.assertEqual(self.sites("--marti-endpoint=tcp:8080", other)[0], ("tcp:8080", anonymous), other)
        log = LogLines(self)
        for said, anonymous in (("yes", True), ("no", False)):
            conf = f"[dp_server]\nendpoints = tcp:8080\nanonymous_http = {said}\n"
            self.assertEqual(self.sites(cot, conf=conf), [("tcp:8080", anonymous)])
            self.assertEqual(self.sites(cot, f"--anonymous-http={said}", "--marti-endpoint=tcp:8080")[0][1], anonymous)
        self.assertEqual(len(log(LogLevel.warn)), 2)

    def test_auth(self) -> None:
        """Each door takes as proof what its string says; where a password does, nobody is warned of anything."""
        pki = PKI(self.folder / "pki")
        log = LogLines(self)
        server = self.make(
            f"--cot-endpoint={pki.endpoint('ssl:8089', auth='password')}",
            f"--cot-endpoint={pki.endpoint('ssl:8090', clientCert='optional')}",
            f"--marti-endpoint={pki.endpoint('ssl:8443', auth='password', clientCert='none')}",
            "--marti-endpoint=tcp:8080",
        )
        streams, open_to_all, encrypted, plain = (door.factory for door in server.doors._doors)
        assert isinstance(streams, CoTFactory) and isinstance(open_to_all, CoTFactory)
        self.assertEqual([streams._auth, open_to_all._auth], ["password", "open"])
        self.assertIs(streams.accounts, open_to_all.accounts)
        self.assertEqual([encrypted.auth, plain.anonymous], ["password", False])  # type: ignore[attr-defined]
        (line,) = log(LogLevel.warn)
        self.assertIn("tcp:8080 will let nobody in", line)

    def test_password_without_tls(self) -> None:
        """A password on a door without TLS is refused before anything is opened."""
        for option in ("--cot-endpoint", "--monitor-endpoint", "--marti-endpoint"):
            problem = self.cannot(f"{option}=tcp:0:auth=password")
            self.assertIn("endpoint tcp:0:auth=password: auth=password counts only inside TLS", problem)

    def test_useless_marti_door(self) -> None:
        """An HTTP door that lets nobody in is named, with what to do about it."""
        pki = PKI(self.folder / "pki")
        log = LogLines(self)
        self.make(f"--cot-endpoint={pki.endpoint('ssl:8089')}", "--marti-endpoint=tcp:8080")
        (line,) = log(LogLevel.warn)
        self.assertIn("tcp:8080 will let nobody in", line)
        self.assertIn("--anonymous-http=yes", line)
        self.make(f"--marti-endpoint={pki.endpoint('ssl:8443', clientCert='none')}")
        self.assertIn("ssl:8443 will let nobody in, because it asks for no certificates", log(LogLevel.warn)[1])

    def test_open_marti_door(self) -> None:
        """Who may come in without a certificate is said for HTTP doors too, and where clients reach them is known."""
        pki = PKI(self.folder / "pki")
        port = OpenPort(IPv4Address("TCP", "0.0.0.0", 8080))
        log = LogLines(self)
        (door,) = self.make("--marti-endpoint=tcp:8080").doors._doors
        door.adjust(port)
        (line,) = log(LogLevel.warn)
        self.assertIn("anybody who reaches this machine can connect to tcp:8080 without a certificate", line)
        (door,) = self.make(f"--marti-endpoint={pki.endpoint('ssl:8443')}").doors._doors
        door.adjust(port)
        (door,) = self.make("--marti-endpoint=tcp:8080", "--anonymous-http=no").doors._doors
        before = len(log(LogLevel.warn))
        door.adjust(port)
        self.assertEqual(len(log(LogLevel.warn)), before)

    def test_only_what_is_served(self) -> None:
        """A server without HTTP does not load what serves it: that costs memory and time."""
        program = (
            "import sys; from taky_twisted.tap import Options, makeService; options = Options();"
            f"options.parseOptions([{self.conf()!r}, '--cot-endpoint=tcp:0', '--data-dir={self.folder}/data']);"
            "makeService(options);"
            "print(sorted({'klein', 'werkzeug', 'twisted.web.http', 'multipart', 'wsproto', 'prometheus_client', 'h11',"
            " 'taky_twisted.metrics', 'taky_twisted.json_logs'} & set(sys.modules)))"
        )
        root = Path(tap.__file__).parent.parent
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        self.assertEqual(done.stdout, b"[]\n")

    def test_metrics(self) -> None:
        """A door for metrics is one of the server's; what it shows is put together from all parts."""
        server = self.make("--cot-endpoint=tcp:0", "--marti-endpoint=tcp:0", "--metrics-endpoint=tcp:0")
        watching = next(service for service in server if type(service).__name__ == "Watching")
        doors = server.doors._doors
        self.assertEqual([door.what for door in doors], ["CoT", "Marti", "metrics"])
        watched = watching.watched
        self.assertIs(watched.router, server.router)
        self.assertEqual(watched.bus, None)
        self.assertEqual(len(watched.shut()), 3)
        (keeping,) = [service for service in server if type(service).__name__ == "Timekeeping"]
        for jumped in keeping._jumped:
            jumped(60.0)
        self.assertEqual(watched.pulse.jumps, 1)
        self.assertIs(server._groundwork[0], keeping)  # also while the server starts

    def test_plain_doors_need_no_certificates(self) -> None:
        """Without a TLS door nobody looks for keys."""
        conf = "[ssl]\nca =\ncert = /nowhere/server.crt\nkey =\n"
        self.assertEqual(self.make(conf=conf)._reloading._tls, [])

    def test_recorder(self) -> None:
        """With log_cot everything heard is written down, without it nothing is."""
        conf = f"[cot_server]\nlog_cot = {self.folder}/log\n"
        (factory,) = self.factories(self.make(conf=conf))
        self.assertIsNotNone(factory.recorder)
        (factory,) = self.factories(self.make())
        self.assertIsNone(factory.recorder)

    def test_warnings(self) -> None:
        """What the file should say otherwise is in the log."""
        lines = LogLines(self)
        self.make(conf="[cot_server]\nmon_ip = 127.0.0.1\n")
        (line,) = lines(LogLevel.warn)
        self.assertIn("mon_ip is ignored", line)

    def test_bad_endpoints(self) -> None:
        """An endpoint that cannot be used is one line."""
        self.assertIn("endpoint tcp:", self.cannot("--cot-endpoint=tcp:http"))
        self.assertIn("unknown key", self.cannot("--monitor-endpoint=tcp:1:iface=127.0.0.1"))
        pki = PKI(self.folder / "pki")
        text = self.cannot(f"--cot-endpoint={pki.endpoint('ssl:8089', privateKey='/nowhere/key')}")
        self.assertIn("privateKey /nowhere/key cannot be read: No such file or directory", text)
        text = self.cannot("--cot-endpoint=ssl:8089")
        self.assertIn("[ssl]", text)

    def test_bad_register(self) -> None:
        """A certificate register that cannot be read is one line."""
        (self.folder / "register").mkdir()
        text = self.cannot("--cot-endpoint=ssl:8089", conf=f"[ssl]\ncert_db = {self.folder}/register\n")
        self.assertIn("certificate register", text)


class WorkersTests(TapTestCase):
    """One of several processes, and who starts them."""

    bus = "--bus=redis:tcp:127.0.0.1:1"

    def make(self, *arguments: str) -> Server:
        """Make a server that is not started."""
        service = makeService(self.options(f"--data-dir={self.folder}/data", self.bus, *arguments))
        assert isinstance(service, Server)
        return service

    def test_values(self) -> None:
        """How many there are is said on the command line or in the file; that several need a bus, in one line."""
        self.assertEqual(self.settings().workers, 1)
        self.assertEqual(self.settings(self.bus, conf="[taky]\nworkers = 3\n").workers, 3)
        self.assertEqual(self.settings(self.bus, "--workers=2", conf="[taky]\nworkers = 3\n").workers, 2)
        self.assertIn("workers = 2 needs a bus", self.refused("--workers=2"))
        self.assertIn("--workers=0: not a number of processes; allowed: a whole number", self.refused("--workers=0"))
        self.assertIn("--worker=x: not the number of a process among several", self.refused("--worker=x"))

    def test_shared_doors(self) -> None:
        """Each worker has all TCP doors, whose ports they share, and the first what can be had once."""
        doors = (
            *("--cot-endpoint=tcp:8087", "--cot-endpoint=unix:/run/cot.sock", "--monitor-endpoint=tcp:8090"),
            *("--marti-endpoint=tcp:8080", "--udp-port=8087", "--multicast=239.2.3.1:6969"),
        )
        shared = ["tcp:8087", "tcp:8090", "tcp:8080"]
        for worker, names, datagrams in ((1, ["tcp:8087", "unix:/run/cot.sock", *shared[1:]], 2), (2, shared, 0)):
            opened = self.make(*doors, f"--worker={worker}").doors
            self.assertEqual(([door.name for door in opened._doors], len(opened._datagrams)), (names, datagrams))
            ports = [door.endpoint for door in opened._doors if door.name.startswith("tcp:")]
            self.assertTrue(all(isinstance(port, SharedPortEndpoint) for port in ports), ports)

    def test_enrollment(self) -> None:
        """The port for enrollment is shared, too."""
        pki = PKI(self.folder / "pki")
        for name in ("ca", "ca_key", "cert_db"):
            (self.folder / name).touch()
        conf = f"[ssl]\nca = {self.folder}/ca\nca_key = {self.folder}/ca_key\ncert_db = {self.folder}/cert_db\n"
        endpoint = pki.endpoint("ssl:8446", clientCert="none")
        options = self.options(self.bus, "--worker=2", f"--enroll-endpoint={endpoint}", conf=conf)
        self.assertEqual(tap._enroll_names(options.settings), (f"{endpoint}:reusePort=yes",))

    def test_impossible_door(self) -> None:
        """A door that several processes cannot have is refused, in one line."""
        with self.assertRaises(SystemExit) as end:
            self.make("--cot-endpoint=tcp:0", "--worker=1")
        self.assertIn("with port 0 each process would have another port", self.one_line(end.exception))

    def test_supervisor(self) -> None:
        """`taky` starts them, and ends as a failure if they cannot be started; twistd itself refuses."""
        options = self.options(self.bus, "--workers=2")
        with self.assertRaises(SystemExit) as end:
            makeService(options)
        self.assertIn("twistd runs one process, and workers = 2", self.one_line(end.exception))
        options.worker_command = ["taky"]
        supervisor = makeService(options)
        assert isinstance(supervisor, Supervisor)
        self.assertEqual([worker.number for worker in supervisor.workers], [1, 2])
        self.assertEqual(options.exit_status, 0)
        supervisor._failed()
        self.assertEqual(options.exit_status, 1)

    def test_balancers(self) -> None:
        """Whose PROXY header is believed may be said once for all doors."""
        conf = "[taky]\nproxy_from = 10.0.0.5, 10.1.0.0/16\n[cot_server]\nendpoints = haproxy:tcp:8087\n"
        service = makeService(self.options("--store=memory:", conf=conf))
        assert isinstance(service, Server)
        (door,) = service.doors._doors
        assert isinstance(door.endpoint, DoorEndpoint)
        self.assertEqual([str(each) for each in door.endpoint.believed or ()], ["10.0.0.5/32", "10.1.0.0/16"])
        self.assertEqual(door.name, "haproxy:tcp:8087")
        error = self.refused(conf="[taky]\nproxy_from = balancer\n")
        self.assertIn("[taky] proxy_from = 'balancer': 'balancer' is no address and no network", error)


class RunningTests(TestCase):
    """The whole, with real ports on loopback."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.log = LogLines(self)
        self.addCleanup(logs.set_level, "info")

    def server(self, *arguments: str) -> Server:
        """Make a server."""
        (self.folder.parent / "empty.conf").write_text("")
        options = Options()
        options.parseOptions(
            [f"--config={self.folder.parent}/empty.conf", f"--data-dir={self.folder}", "--store=memory:", *arguments]
        )
        server = makeService(options)
        assert isinstance(server, Server)
        return server

    def start(self, *arguments: str) -> Server:
        """Start a server that is stopped when the test ends."""
        server = self.server(*arguments)
        server.privilegedStartService()
        server.startService()
        self.addCleanup(server.stopService)
        return server

    def test_ports(self) -> None:
        """Streams, datagrams and groups are open at once, each with a line; TCP connections write eagerly."""
        group = free_port(socket.SOCK_DGRAM)
        server = self.start(
            "--cot-endpoint=tcp:0:interface=127.0.0.1",
            "--monitor-endpoint=tcp:0:interface=127.0.0.1",
            f"--multicast=239.255.77.1:{group}:127.0.0.1:both",
        )
        first, second, multicast = server.doors.ports
        self.assertIs(first.transport, EagerServer)  # type: ignore[attr-defined]
        self.assertIs(second.transport, EagerServer)  # type: ignore[attr-defined]
        self.assertIsInstance(multicast.protocol, CoTMulticast)  # type: ignore[attr-defined]
        text = "\n".join(self.log(LogLevel.info))
        self.assertIn(f"CoT door tcp:0 is open on 127.0.0.1 port {_port(first)}", text)
        self.assertIn(f"monitor door tcp:0 is open on 127.0.0.1 port {_port(second)}", text)
        self.assertIn(f"multicast 239.255.77.1:{group} is joined (both)", text)
        self.assertEqual(self.log(LogLevel.warn), [])

    def test_udp(self) -> None:
        """The UDP port listens where bind_ip says."""
        port = free_port(socket.SOCK_DGRAM)
        (self.folder.parent / "udp.conf").write_text("[taky]\nbind_ip = 127.0.0.1\n")
        server = self.start(f"--udp-port={port}", f"--config={self.folder.parent}/udp.conf")
        (udp,) = server.doors.ports
        self.assertIsInstance(udp.protocol, CoTDatagrams)  # type: ignore[attr-defined]
        self.assertEqual(udp.getHost(), IPv4Address("UDP", "127.0.0.1", port))

    def test_no_such_interface(self) -> None:
        """A group on an interface that this machine does not have stops the start with one line."""
        server = self.server(f"--multicast=239.255.77.1:{free_port(socket.SOCK_DGRAM)}:203.0.113.9:both")
        with self.assertRaises(CannotStart) as end:
            server.privilegedStartService()
        self.assertIn("cannot open the UDP door on 203.0.113.9 port", str(end.exception.code))

    def test_unix(self) -> None:
        """A unix socket serves local processes."""
        folder = tempfile.mkdtemp()  # a short path: the system allows 107 bytes
        self.addCleanup(shutil.rmtree, folder)
        path = f"{folder}/cot"
        server = self.start(f"--cot-endpoint=unix:{path}")
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        (port,) = server.doors.ports
        self.assertIsNot(port.transport, EagerServer)  # type: ignore[attr-defined]


def _port(port: Any) -> int:
    number: int = port.getHost().port
    return number
