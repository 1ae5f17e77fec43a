from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

from twisted.internet.endpoints import serverFromString
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.limits import Limits
from taky_twisted.config.settings import Settings, SslSettings, check_groups
from taky_twisted.config.values import ConfigError, MulticastSpec, RedisSettings

GROUP = MulticastSpec("239.2.3.1", 6969)
TLS = SslSettings(enabled=True)


class DoorTests(SynchronousTestCase):
    def test_default(self) -> None:
        """Who configures nothing has one CoT door on tcp:8087 and no monitor."""
        self.assertEqual(Settings().cot_doors(), ("tcp:8087",))
        self.assertEqual(Settings().monitor_doors(), ())

    def test_tls(self) -> None:
        """With TLS the door is ssl:8089; one that does not require certificates still asks, as taky's does."""
        self.assertEqual(Settings(ssl=TLS).cot_doors(), ("ssl:8089",))
        self.assertEqual(Settings(ssl=TLS, cot_port=9000).cot_doors(), ("ssl:9000",))
        relaxed = replace(TLS, client_cert_required=False)
        self.assertEqual(
            Settings(ssl=relaxed, bind_ip="10.0.0.1").cot_doors(),
            ("ssl:8089:interface=10.0.0.1:clientCert=optional",),
        )

    def test_port_and_address(self) -> None:
        """The port and the address of the file are those of the door."""
        self.assertEqual(Settings(cot_port=9000).cot_doors(), ("tcp:9000",))
        self.assertEqual(Settings(bind_ip="10.0.0.1").cot_doors(), ("tcp:8087:interface=10.0.0.1",))

    def test_ipv6(self) -> None:
        """Twisted reads the address of an IPv6 door as it was written."""
        (door,) = Settings(bind_ip="2001:db8::1", cot_port=9000).cot_doors()
        self.assertEqual(door, r"tcp:9000:interface=2001\:db8\:\:1")
        endpoint = serverFromString(MemoryReactorClock(), door)
        self.assertEqual((endpoint._interface, endpoint._port), ("2001:db8::1", 9000))

    def test_endpoints(self) -> None:
        """Endpoints are the doors, whatever else is said."""
        settings = Settings(cot_endpoints=("tcp:1", "ssl:2"), ssl=TLS, bind_ip="10.0.0.1")
        self.assertEqual(settings.cot_doors(), ("tcp:1", "ssl:2"))

    def test_no_default_beside_others(self) -> None:
        """The default door opens only if no door of any kind is named; a named one opens beside the others."""
        for others in (
            Settings(udp_port=6969),
            Settings(multicast=(GROUP,)),
            Settings(monitor_endpoints=("tcp:1",)),
            Settings(monitor_ip="127.0.0.1"),
        ):
            self.assertEqual(others.cot_doors(), ())
            self.assertEqual(replace(others, cot_port=8087).cot_doors(), ("tcp:8087",))
            self.assertEqual(replace(others, ssl=TLS).cot_doors(), ("ssl:8089",))
            self.assertEqual(replace(others, cot_endpoints=("tcp:1",)).cot_doors(), ("tcp:1",))

    def test_marti(self) -> None:
        """The Marti API has a door of its own beside the default CoT door, of the same kind."""
        self.assertEqual(Settings().marti_doors(), ("tcp:8080",))
        self.assertEqual(Settings(bind_ip="::1").marti_doors(), (r"tcp:8080:interface=\:\:1",))
        self.assertEqual(Settings(ssl=TLS, bind_ip="10.0.0.1").marti_doors(), ("ssl:8443:interface=10.0.0.1",))

    def test_marti_in_a_taky_site(self) -> None:
        """A site of taky has an HTTP door as it had: what only taky's keys say is no endpoint."""
        for taky, door in (
            (Settings(cot_port=9000), "tcp:8080"),
            (Settings(cot_port=8089, ssl=TLS), "ssl:8443"),
            (Settings(cot_port=8089, ssl=TLS, monitor_ip="127.0.0.1"), "ssl:8443"),
        ):
            self.assertEqual(taky.marti_doors(), (door,))

    def test_marti_endpoints(self) -> None:
        """Named endpoints are its doors, whatever else is said; they leave no default CoT door beside them."""
        for settings in (Settings(), Settings(ssl=TLS, bind_ip="10.0.0.1"), Settings(cot_endpoints=("tcp:1",))):
            settings = replace(settings, marti_endpoints=("tcp:2", "ssl:3"))
            self.assertEqual(settings.marti_doors(), ("tcp:2", "ssl:3"))
        self.assertEqual(Settings(marti_endpoints=("tcp:2",)).cot_doors(), ())
        self.assertEqual(Settings(marti_endpoints=("tcp:2",), cot_port=9000).cot_doors(), ("tcp:9000",))

    def test_no_marti_beside_others(self) -> None:
        """Where an endpoint of any kind is named, HTTP is served only if one is named for it."""
        for others in (
            Settings(udp_port=6969),
            Settings(multicast=(GROUP,)),
            Settings(monitor_endpoints=("tcp:1",)),
            Settings(cot_endpoints=("tcp:1",)),
        ):
            self.assertEqual(others.marti_doors(), ())
            self.assertEqual(replace(others, ssl=TLS).marti_doors(), ())

    def test_enroll(self) -> None:
        """Enrollment has a door beside the default doors, if those speak TLS; naming one changes no other."""
        self.assertEqual(Settings().enroll_doors(), ())
        site = Settings(ssl=TLS, bind_ip="::1", cot_port=8089)
        self.assertEqual(site.enroll_doors(), (r"ssl:8446:interface=\:\:1",))
        for others in (
            *(Settings(udp_port=6969), Settings(multicast=(GROUP,)), Settings(monitor_endpoints=("tcp:1",))),
            *(Settings(cot_endpoints=("tcp:1",)), Settings(marti_endpoints=("tcp:1",))),
        ):
            self.assertEqual(replace(others, ssl=TLS).enroll_doors(), ())
            named = replace(others, enroll_endpoints=("ssl:1", "ssl:2"))
            self.assertEqual(named.enroll_doors(), ("ssl:1", "ssl:2"))
            self.assertEqual((named.cot_doors(), named.marti_doors()), (others.cot_doors(), others.marti_doors()))
        replaced = Settings(enroll_endpoints=("ssl:1",)).replaced(enroll_endpoints=["ssl:2"])
        self.assertEqual(replaced.enroll_doors(), ("ssl:2",))
        named = replace(site, enroll_endpoints=("ssl:1",))
        self.assertEqual((named.cot_doors(), named.marti_doors()), (site.cot_doors(), site.marti_doors()))

    def test_monitor(self) -> None:
        """The monitor listens on its address, or on its endpoints."""
        self.assertEqual(Settings(monitor_ip="127.0.0.1").monitor_doors(), ("tcp:8087:interface=127.0.0.1",))
        self.assertEqual(Settings(monitor_ip="::1", monitor_port=5).monitor_doors(), (r"tcp:5:interface=\:\:1",))
        self.assertEqual(Settings(monitor_endpoints=("unix:a", "tcp:1")).monitor_doors(), ("unix:a", "tcp:1"))


class ReplacedTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        """A command line without options changes nothing."""
        settings = Settings(cot_port=1, udp_port=2, multicast=(GROUP,), store="memory:", hostname="a")
        self.assertEqual(settings.replaced(), settings)

    def test_plain(self) -> None:
        """What the command line says stands in place of what the file says; the rest stays."""
        settings = Settings(hostname="a", node_id="b", public_ip="c", bind_ip="10.0.0.1", udp_port=1).replaced(
            hostname="host", node_id="node", public_ip="192.0.2.1", data_dir=Path("/data"), store="memory:", udp_port=2
        )
        self.assertEqual(
            settings,
            Settings(
                hostname="host",
                node_id="node",
                public_ip="192.0.2.1",
                data_dir=Path("/data"),
                store="memory:",
                udp_port=2,
                bind_ip="10.0.0.1",
            ),
        )

    def test_redis(self) -> None:
        """User, password and database are those of every Redis; each can be replaced."""
        file = RedisSettings("tcp:a:1", "anna", Path("/password"), 1, "hunter2")
        settings = Settings(store="redis:tcp:a:1", redis=file).replaced(redis_db=2, bus="tcp:b:2")
        self.assertEqual(settings.store_redis, replace(file, db=2))
        self.assertEqual(settings.bus, replace(file, endpoint="tcp:b:2", db=2))
        settings = settings.replaced(
            store="memory:", redis_user="bert", redis_password_file=Path("/other"), redis_import_groups=("red",)
        )
        self.assertEqual((settings.store_redis, settings.redis_import_groups), (None, ("red",)))
        self.assertEqual(settings.bus, RedisSettings("tcp:b:2", "bert", Path("/other"), 2, "hunter2"))
        self.assertEqual((Settings().store_redis, Settings().bus), (None, None))

    def test_cot_endpoints(self) -> None:
        """Endpoints of the command line replace the file's port, its TLS door and its endpoints."""
        for settings in (Settings(cot_port=1), Settings(ssl=TLS), Settings(cot_endpoints=("tcp:1",))):
            self.assertEqual(settings.replaced(cot_endpoints=["tcp:2", "tcp:3"]).cot_doors(), ("tcp:2", "tcp:3"))

    def test_monitor_endpoints(self) -> None:
        """Endpoints of the command line replace the file's monitor address and its endpoints."""
        for settings in (Settings(monitor_ip="127.0.0.1"), Settings(monitor_endpoints=("tcp:1",))):
            self.assertEqual(settings.replaced(monitor_endpoints=["tcp:2"]).monitor_doors(), ("tcp:2",))

    def test_marti(self) -> None:
        """So with the Marti API: its endpoints, its address for clients, and who may call without TLS."""
        settings = Settings(marti_endpoints=("tcp:1",), anonymous_http=True, public_url="http://old")
        self.assertEqual(settings.replaced(), settings)
        replaced = settings.replaced(marti_endpoints=["tcp:2"], anonymous_http=False, public_url="https://new:1")
        self.assertEqual(replaced.marti_doors(), ("tcp:2",))
        self.assertEqual((replaced.anonymous_http, replaced.public_url), (False, "https://new:1"))

    def test_groups(self) -> None:
        """Groups of the command line replace all of the file's; one group twice is refused."""
        settings = Settings(multicast=(GROUP,))
        other = replace(GROUP, port=7000)
        self.assertEqual(settings.replaced(multicast=[other]).multicast, (other,))
        error = self.assertRaises(ConfigError, settings.replaced, multicast=[GROUP, replace(GROUP, direction="out")])
        self.assertIn("239.2.3.1:6969 is named twice", str(error))

    def test_same_group_elsewhere(self) -> None:
        """One group may be named for several interfaces."""
        check_groups([GROUP, replace(GROUP, interface="10.0.0.1"), replace(GROUP, interface="10.0.0.2")])

    def test_limits(self) -> None:
        """Limits of the command line replace the file's one by one, and are checked together."""
        settings = Settings(limits=Limits(max_connections=7, max_handshakes=8))
        self.assertEqual(
            settings.replaced(limits={"max_connections": 9}).limits, Limits(max_connections=9, max_handshakes=8)
        )
        error = self.assertRaises(ConfigError, settings.replaced, limits={"outbox_bytes": 1024})
        self.assertIn("max_event_to_client = 65536 is more than outbox_bytes = 1024", str(error))


class NameTests(SynchronousTestCase):
    def test_stored_as(self) -> None:
        """The first process of a machine may have had other names; no other one takes anything over."""
        self.patch(socket, "gethostname", lambda: "pi_4")
        bus = Settings(bus_endpoint="tcp:localhost:6379")
        for settings, names in (
            (Settings(), ("", "pi-4_1", "pi-4")),
            (bus, ("pi-4", "pi-4_1", "")),
            (replace(bus, worker=1), ("pi-4_1", "pi-4", "")),
            (replace(bus, worker=2), ("pi-4_2",)),
        ):
            self.assertEqual(settings.stored_as, names)


class SecretTests(SynchronousTestCase):
    def test_repr(self) -> None:
        """Passwords do not get into a log by way of a repr."""
        shown = repr(Settings(ssl=SslSettings(key_pw="hush", server_p12_pw="whisper")))
        self.assertNotIn("hush", shown)
        self.assertNotIn("whisper", shown)
        self.assertIn("server.key", shown)
