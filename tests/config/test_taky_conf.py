from __future__ import annotations

import re
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config import ConfigError, Limits, MulticastSpec, RedisSettings, Settings, SslSettings, load
from taky_twisted.config.conf_file import ConfFile
from taky_twisted.config.limits import LIMITS
from taky_twisted.config.taky_conf import read_settings

MANUAL = Path(__file__).parents[2] / "doc" / "reference" / "configuration.rst"

ALL_KEYS = """
[taky]
hostname = tak.example.org
node_id = node-1
bind_ip = 10.0.0.1
public_ip = tak.example.com
redis = false
redis_user = anna
redis_password_file = redis-password
redis_db = 3
redis_import_groups = red, blue
bus = redis:unix:/run/redis.sock
root_dir = data
store = sqlite:items.db

[cot_server]
port = 9089
mon_ip = 127.0.0.1
mon_port = 9087
udp_port = 6969
multicast =
    239.2.3.1:6969:both
    224.10.10.1:17012:10.0.0.1
chat_fallback = off
tak_protocol = xml
log_cot = log
log_cot_bytes = 1 MiB
log_cot_files = 3
max_persist_ttl = 3600

[dp_server]
upload_path = /srv/uploads
endpoints =
    tcp:8080:interface=127.0.0.1
    ssl:8443
enroll_endpoints = ssl:8446
anonymous_http = no
public_url = https://tak.example.org:8443/

[ssl]
enabled = yes
client_cert_required = no
ca = ssl/ca.crt
ca_key = ssl/ca.key
server_p12 = ssl/server.p12
server_p12_pw = a%b
cert = ssl/server.crt
key = ssl/server.key
key_pw = hush
cert_db = ssl/cert-db.txt

[tak_protocol]
Fox 1 = auto

[limits]
max_connections = 20
outbox_bytes = 2 MiB
thin_seconds = 0.5
"""

# What `takyctl setup` of taky 0.10 writes into a new site.
OF_TAKY = """\
[taky]
hostname = tak.example.org
node_id = TAKY
bind_ip = 0.0.0.0
public_ip = 192.0.2.1
redis
root_dir = .

[cot_server]
port = 8089
mon_ip
mon_port
log_cot
max_persist_ttl = -1

[dp_server]
upload_path = ./dp-user

[ssl]
enabled = true
client_cert_required = True
ca = ./ssl/ca.crt
ca_key = ./ssl/ca.key
server_p12 = ./ssl/server.p12
server_p12_pw = atakatak
cert = ./ssl/server.crt
key = ./ssl/server.key
key_pw
cert_db = ./ssl/cert-db.txt

"""


class LoadTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Each test has its own site, and no file of the system counts."""
        self.site = Path(self.mktemp()).absolute()
        self.site.mkdir()
        self.path = self.site / "taky.conf"
        self.cwd = Path(self.mktemp()).absolute()
        self.cwd.mkdir()
        self.absent = self.site / "absent.conf"

    def load(self, text: str) -> Settings:
        """Load a file with a text, from a folder that is not its own."""
        self.path.write_text(text, "utf-8")
        return load(str(self.path), self.cwd, self.absent)

    def refused(self, text: str) -> str:
        """Return how a text is refused, without the file's name."""
        message = str(self.assertRaises(ConfigError, self.load, text))
        self.assertTrue(message.startswith(f"{self.path}: "), message)
        return message[len(str(self.path)) + 2 :]

    def test_defaults(self) -> None:
        """An empty file is as good as none, and both mean the defaults with the data folder where one stands."""
        expected = Settings(data_dir=self.cwd / "taky-data")
        self.assertEqual(load(None, self.cwd, self.absent), expected)
        self.assertEqual(load(cwd=self.cwd, system=self.absent), expected)
        self.path.write_text("", "utf-8")
        found = load(str(self.path), self.cwd, self.absent)
        self.assertEqual((found.path, found.data_dir, found.warnings), (self.path, self.cwd / "taky-data", ()))
        self.assertEqual((found.cot_doors(), found.marti_doors()), (("tcp:8087",), ("tcp:8080",)))

    def test_every_key(self) -> None:
        """Every key of the file ends up in its setting, with relative paths from the file's folder."""
        ssl = self.site / "ssl"
        self.assertEqual(
            self.load(ALL_KEYS),
            Settings(
                path=self.path,
                hostname="tak.example.org",
                node_id="node-1",
                bind_ip="10.0.0.1",
                public_ip="tak.example.com",
                data_dir=self.site / "data",
                store=f"sqlite:{self.site / 'items.db'}",
                redis=RedisSettings("", "anna", self.site / "redis-password", 3),
                redis_import_groups=("red", "blue"),
                bus_endpoint="unix:/run/redis.sock",
                cot_port=9089,
                monitor_ip="127.0.0.1",
                monitor_port=9087,
                udp_port=6969,
                multicast=(
                    MulticastSpec("239.2.3.1", 6969, None, "both"),
                    MulticastSpec("224.10.10.1", 17012, "10.0.0.1", "in"),
                ),
                log_cot=self.site / "log",
                log_cot_bytes=1 << 20,
                log_cot_files=3,
                max_persist_ttl=3600,
                upload_path=Path("/srv/uploads"),
                marti_endpoints=("tcp:8080:interface=127.0.0.1", "ssl:8443"),
                enroll_endpoints=("ssl:8446",),
                anonymous_http=False,
                public_url="https://tak.example.org:8443",
                chat_fallback=False,
                tak_protocol="xml",
                tak_protocol_of={"fox 1": "auto"},
                ssl=SslSettings(
                    enabled=True,
                    client_cert_required=False,
                    ca=ssl / "ca.crt",
                    ca_key=ssl / "ca.key",
                    server_p12=ssl / "server.p12",
                    server_p12_pw="a%b",
                    cert=ssl / "server.crt",
                    key=ssl / "server.key",
                    key_pw="hush",
                    cert_db=ssl / "cert-db.txt",
                ),
                limits=Limits(max_connections=20, outbox_bytes=2 << 20, thin_seconds=0.5),
            ),
        )

    def test_site_of_taky(self) -> None:
        """A site that taky's own setup has made works as it is, without a warning."""
        found = self.load(OF_TAKY)
        self.assertEqual(found.data_dir, self.site)
        self.assertEqual(found.cot_doors(), ("ssl:8089:interface=0.0.0.0",))
        self.assertEqual(found.marti_doors(), ("ssl:8443:interface=0.0.0.0",))
        self.assertEqual(found.monitor_doors(), ())
        self.assertEqual((found.ssl.ca, found.ssl.key_pw), (self.site / "ssl" / "ca.crt", None))
        self.assertEqual((found.log_cot, found.upload_path), (None, self.site / "dp-user"))
        self.assertEqual(found.warnings, ())

    def test_which_file(self) -> None:
        """The named file comes first, then the one where one stands, then the system's."""
        self.absent.write_text("[taky]\nhostname = system\n", "utf-8")
        self.assertEqual(load(None, self.cwd, self.absent).hostname, "system")
        (self.cwd / "taky.conf").write_text("[taky]\nhostname = here\n", "utf-8")
        self.assertEqual(load(None, self.cwd, self.absent).hostname, "here")
        (self.cwd / "other.conf").write_text("[taky]\nhostname = named\n", "utf-8")
        found = load("other.conf", self.cwd, self.absent)
        self.assertEqual((found.hostname, found.path), ("named", self.cwd / "other.conf"))

    def test_no_such_file(self) -> None:
        """A named file that is not there stops the start; the others are not looked for."""
        (self.cwd / "taky.conf").write_text("", "utf-8")
        for name in ("absent.conf", ""):
            error = self.assertRaises(ConfigError, load, name, self.cwd, self.absent)
            self.assertTrue(str(error).startswith(f"{self.cwd / name}: "), str(error))

    def test_unreadable(self) -> None:
        """A file that is there and cannot be read is not passed over in silence."""
        (self.cwd / "taky.conf").mkdir()
        error = self.assertRaises(ConfigError, load, None, self.cwd, self.absent)
        self.assertEqual(str(error), f"{self.cwd / 'taky.conf'}: cannot be read: Is a directory")

    def test_bad_values(self) -> None:
        """Every key has a check, and the error says section, key, value and what is allowed."""
        for section, key, value in (
            ("taky", "hostname", "a b"),
            ("taky", "node_id", "a b"),
            ("taky", "bind_ip", "localhost"),
            ("taky", "public_ip", "a b"),
            ("taky", "store", "mysql:"),
            ("cot_server", "port", "99999"),
            ("cot_server", "mon_ip", "x"),
            ("cot_server", "mon_port", "0"),
            ("cot_server", "udp_port", "x"),
            ("cot_server", "multicast", "10.0.0.1:1"),
            ("cot_server", "chat_fallback", "maybe"),
            ("cot_server", "tak_protocol", "protobuf"),
            ("tak_protocol", "fox", "2"),
            ("cot_server", "log_cot_bytes", "4095"),
            ("cot_server", "log_cot_bytes", "9999999999999"),
            ("cot_server", "log_cot_files", "0"),
            ("cot_server", "max_persist_ttl", "-2"),
            ("ssl", "enabled", "ja"),
            ("ssl", "client_cert_required", "2"),
            ("limits", "max_connections", "-1"),
        ):
            message = self.refused(f"[{section}]\n{key} = {value}\n")
            self.assertTrue(message.startswith(f"[{section}] {key} = '{value}': "), message)
            self.assertIn("allowed: ", message)

    def test_unknown(self) -> None:
        """A misspelled key or section stops the start with the one that was meant."""
        self.assertIn("did you mean mon_ip?", self.refused("[cot_server]\nmonip = 127.0.0.1\n"))
        self.assertIn("did you mean cot_server?", self.refused("[cotserver]\n"))
        self.assertIn("it belongs into [cot_server]", self.refused("[taky]\nport = 1\n"))
        self.assertIn("did you mean max_connections?", self.refused("[limits]\nmax_connection = 1\n"))

    def test_redis(self) -> None:
        """A site of taky that keeps its items in Redis keeps them there, unless that contradicts what is new here."""
        for value in ("true", "localhost", "redis://localhost"):
            found = self.load(f"[taky]\nredis = {value}\n")
            self.assertEqual((found.store, found.warnings), ("redis:tcp:localhost:6379", ()))
            self.assertEqual(found.store_redis, RedisSettings("tcp:localhost:6379"))
        for value in ("false", "no", ""):
            self.assertEqual(self.load(f"[taky]\nredis = {value}\n").store, None)
        same = self.load("[taky]\nredis = 1\nstore = redis:tcp:localhost:6379\n")
        self.assertEqual(same.store, "redis:tcp:localhost:6379")
        for store in ("memory:", "sqlite:a", "redis:tcp:other:6379"):
            self.assertIn("names another store", self.refused(f"[taky]\nredis = yes\nstore = {store}\n"))
        self.assertIn("allowed: redis:tcp:HOST:PORT", self.refused("[taky]\nstore = redis:localhost\n"))

    def test_secret_of_redis(self) -> None:
        """A password in taky's address is used, and never shown."""
        found = self.load("[taky]\nredis = redis://anna:hunter2@host:1/2\nbus = redis:tcp:bus:1\n")
        self.assertEqual(found.store_redis, RedisSettings("tcp:host:1", "anna", None, 2, "hunter2"))
        self.assertEqual(found.bus, RedisSettings("tcp:bus:1", "anna", None, 2, "hunter2"))
        self.assertNotIn("hunter2", repr(found))
        for wrong in ("redis = redis://anna:hunter2@host:x\n", "store = redis://anna:hunter2@host\n"):
            self.assertNotIn("hunter2", self.refused(f"[taky]\n{wrong}"))

    def test_endpoints(self) -> None:
        """CoT doors and monitors can be lists of endpoints."""
        found = self.load("[cot_server]\nendpoints =\n  tcp:1\n\n  ssl:2:minTLS=1.3\nmonitor_endpoints = unix:a\n")
        self.assertEqual(found.cot_doors(), ("tcp:1", "ssl:2:minTLS=1.3"))
        self.assertEqual(found.monitor_doors(), ("unix:a",))

    def test_endpoints_and_port(self) -> None:
        """Two ways to name the same door in one file contradict each other."""
        message = self.refused("[cot_server]\nport = 8087\nendpoints = tcp:1\n")
        self.assertEqual(message, "[cot_server] port = '8087': cannot stand beside endpoints; allowed: one of the two")
        message = self.refused("[cot_server]\nmon_ip = 127.0.0.1\nmonitor_endpoints = tcp:1\n")
        self.assertIn("[cot_server] mon_ip = '127.0.0.1': cannot stand beside monitor_endpoints", message)

    def test_unindented_endpoint(self) -> None:
        """Who forgets to indent a list is told what to do."""
        message = self.refused("[cot_server]\nendpoints =\nssl:8089\n")
        self.assertIn("[cot_server] ssl = '8089': unknown key", message)
        self.assertIn("a line that continues the one above is indented", message)

    def test_group_twice(self) -> None:
        """A group that is named twice is refused."""
        message = self.refused("[cot_server]\nmulticast = 239.2.3.1:1\n  239.2.3.1:1:out\n")
        self.assertIn("multicast group 239.2.3.1:1 is named twice", message)

    def test_monitor_without_tls(self) -> None:
        """As in taky, the monitor address counts only with TLS; the operator is told, and the CoT door opens."""
        found = self.load("[cot_server]\nmon_ip = 127.0.0.1\n")
        self.assertEqual((found.monitor_doors(), found.cot_doors()), ((), ("tcp:8087",)))
        (warning,) = found.warnings
        self.assertIn(f"{self.path}: [cot_server] mon_ip is ignored, because [ssl] is not enabled", warning)
        found = self.load("[cot_server]\nmon_ip = 127.0.0.1\n[ssl]\nenabled = 1\n")
        self.assertEqual(found.monitor_doors(), ("tcp:8087:interface=127.0.0.1",))
        self.assertEqual(found.warnings, ())

    def test_monitor_port_alone(self) -> None:
        """A monitor port without its address opens nothing, and the operator is told."""
        found = self.load("[cot_server]\nmon_port = 12345\n[ssl]\nenabled = 1\n")
        self.assertEqual(found.monitor_doors(), ())
        self.assertIn("mon_port opens no monitor without mon_ip", found.warnings[0])

    def test_old_name_of_password(self) -> None:
        """The name in taky's sample file works with a warning that does not show the password; both are refused."""
        found = self.load("[ssl]\nserver_p12_key = hush\n")
        self.assertEqual(found.ssl.server_p12_pw, "hush")
        self.assertIn("[ssl] server_p12_key is an old name; call it server_p12_pw", found.warnings[0])
        self.assertNotIn("hush", found.warnings[0])
        message = self.refused("[ssl]\nserver_p12_key = hush\nserver_p12_pw = hush\n")
        self.assertIn("is an old name of server_p12_pw; allowed: one of the two", message)
        self.assertNotIn("hush", message)

    def test_ssl_none(self) -> None:
        """In [ssl] a key without a value is none: the key is in the certificate's file, there is no register."""
        found = self.load("[ssl]\nkey =\ncert_db\nserver_p12_pw =\n").ssl
        self.assertEqual((found.key, found.cert_db, found.server_p12_pw), (None, None, None))
        self.assertEqual((found.cert, found.ca), (Path("/etc/taky/ssl/server.crt"), Path("/etc/taky/ssl/ca.crt")))

    def test_percent(self) -> None:
        """A value that taky would have read otherwise is taken as it stands, and named in a warning."""
        found = self.load("[ssl]\nkey_pw = a%%b\n")
        self.assertEqual(found.ssl.key_pw, "a%%b")
        (warning,) = found.warnings
        self.assertIn("[ssl] key_pw: taken as it stands", warning)
        self.assertNotIn("a%%b", warning)

    def test_limits(self) -> None:
        """Every limit has a key; limits that contradict each other are refused."""
        text = "[limits]\n" + "".join(f"{name} = {limit.high:.0f}\n" for name, limit in LIMITS.items())
        found = self.load(text).limits
        self.assertEqual(
            {name: getattr(found, name) for name in LIMITS}, {name: one.high for name, one in LIMITS.items()}
        )
        message = self.refused("[limits]\nmax_event_bytes = 2048\n")
        self.assertIn("[limits] max_unidentified_bytes = 65536 is more than max_event_bytes = 2048", message)

    def test_manual(self) -> None:
        """The manual has every section and every key with its default, and none besides."""
        _, *parts = re.split(r"\n\[(\w+)\]\n-+\n", MANUAL.read_text("utf-8"))
        manual = dict(zip(parts[::2], parts[1::2], strict=True))
        conf = ConfFile({}, None, Path("/"))
        read_settings(conf, Path("/"))
        self.assertEqual(sorted(manual), sorted(conf.known))
        plain = self.load("")
        for section in ("taky", "cot_server", "dp_server", "ssl"):
            rows = dict(re.findall(r"\n   \* - ``(\w+)``\n     - (.*)\n", manual[section]))
            self.assertEqual(sorted(rows), sorted(conf.known[section]), section)
            for key, default in rows.items():
                # A port says more when it is named than its default does, and these folders start elsewhere then.
                if default != "not set" and key not in ("port", "mon_port", "root_dir", "upload_path"):
                    written = f"[{section}]\n{key} = {default.strip('`')}\n"
                    self.assertEqual(self.load(written), plain, written)
        self.assertEqual(sorted(conf.known["limits"]), sorted(LIMITS))


KNOWN = ConfFile({}, None, Path("/"))
read_settings(KNOWN, Path("/"))
WORDS = st.sampled_from(
    [
        "",
        "true",
        "no",
        "1",
        "8087",
        "0",
        "-1",
        "10 MiB",
        "127.0.0.1",
        "::1",
        "tcp:1",
        "239.2.3.1:1:both",
        "memory:",
        "sqlite:a",
    ]
)
KEYS = st.sampled_from([key for keys in KNOWN.known.values() for key in keys])
LINES = st.one_of(
    st.sampled_from([f"[{section}]" for section in KNOWN.known]),
    st.builds(
        "{}{}{}{}".format, st.sampled_from(["", " ", "\t"]), KEYS, st.sampled_from([" = ", ":", ""]), WORDS | st.text()
    ),
    st.builds("  {}".format, WORDS | st.text()),
    st.text(),
)
NEARLY = st.lists(LINES, max_size=20).map("\n".join).map(lambda text: text.encode("utf-8", "surrogatepass"))


class AnyFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        """One file is written over and over."""
        self.path = Path(self.mktemp()).absolute()

    def check(self, data: bytes) -> None:
        """A file gives settings whose doors can be named, or one line that begins with its name."""
        self.path.write_bytes(data)
        try:
            found = load(str(self.path))
        except ConfigError as error:
            words = str(error)
            self.assertTrue(words.startswith(f"{self.path}: "), words)
            self.assertTrue(words.isprintable(), words)
        else:
            for door in (*found.cot_doors(), *found.monitor_doors()):
                self.assertIsInstance(door, str)

    @given(st.binary())
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever is in the file, there is no traceback."""
        self.check(data)

    @given(NEARLY)
    @settings(max_examples=500, deadline=None)
    def test_nearly_right(self, data: bytes) -> None:
        """Whatever is wrong with a file that is nearly right, there is no traceback."""
        self.check(data)
