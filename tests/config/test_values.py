from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.values import (
    MulticastSpec,
    parse_address,
    parse_boolean,
    parse_group_names,
    parse_host,
    parse_integer,
    parse_multicast,
    parse_networks,
    parse_node_id,
    parse_port,
    parse_redis_db,
    parse_redis_endpoint,
    parse_size,
    parse_store,
    parse_url,
    parse_worker,
    parse_workers,
    without_password,
)

ALL: list[Callable[[str], object]] = [
    parse_address,
    parse_boolean,
    parse_group_names,
    parse_host,
    parse_multicast,
    parse_networks,
    parse_node_id,
    parse_port,
    parse_redis_db,
    parse_redis_endpoint,
    parse_size,
    parse_store,
    parse_url,
    parse_worker,
    parse_workers,
]


class ValueTests(SynchronousTestCase):
    def refused(self, parse: Callable[[str], object], *texts: str) -> str:
        """Each text is refused with what is allowed instead; returns the last message."""
        message = ""
        for text in texts:
            message = str(self.assertRaises(ValueError, parse, text))
            self.assertIn("allowed: ", message, text)
        return message

    def test_networks(self) -> None:
        """Addresses and networks are named with commas; none is nobody."""
        for text, networks in (
            ("192.0.2.7", ["192.0.2.7/32"]),
            (" 10.1.0.0/16 , ::1,fd00::/8 ", ["10.1.0.0/16", "::1/128", "fd00::/8"]),
            ("none", []),
        ):
            self.assertEqual([str(each) for each in parse_networks(text)], networks)
        self.refused(parse_networks, "", "10.0.0.1,", "balancer", "10.0.0.1/8", "10.0.0.1 10.0.0.2", "10.0.0.0/33")

    def test_workers(self) -> None:
        """There are up to 64 processes, and they count from 1."""
        for parse in (parse_workers, parse_worker):
            self.assertEqual((parse("1"), parse("64")), (1, 64))
            self.refused(parse, "0", "65", "-1", "two")

    def test_boolean(self) -> None:
        """Yes and no are spelled as in every INI file of Python."""
        for text in ("true", "YES", "On", "1", " true "):
            self.assertIs(parse_boolean(text), True)
        for text in ("false", "no", "OFF", "0"):
            self.assertIs(parse_boolean(text), False)
        self.refused(parse_boolean, "", "2", "ja", "truee")

    def test_integer(self) -> None:
        """A number may be as small and as large as is said, and nothing but digits."""
        for number in (-1, 0, 7):
            self.assertEqual(parse_integer(f" {number} ", -1, 7, "x"), number)
        for text in ("-2", "8", "1.0", "1_0", "+1", "0x1", "", "٣", "9" * 5000):
            error = self.assertRaises(ValueError, parse_integer, text, -1, 7, "a number of x")
            self.assertEqual(str(error), "not a number of x; allowed: a whole number from -1 to 7")

    def test_port(self) -> None:
        """Ports are 1 to 65535."""
        self.assertEqual((parse_port("1"), parse_port("65535")), (1, 65535))
        self.assertIn("1 to 65535", self.refused(parse_port, "0", "65536", "-1", "http", "80,81"))

    def test_size(self) -> None:
        """Sizes are bytes; every suffix counts in 1024, in either case, with or without a space."""
        for text, size in {
            "0": 0,
            "8388608": 8388608,
            "1k": 1024,
            "2K": 2048,
            "3 KiB": 3072,
            "1M": 1 << 20,
            "1mib": 1 << 20,
            "1\tMiB": 1 << 20,
            "2G": 2 << 30,
            "2 gib": 2 << 30,
        }.items():
            self.assertEqual(parse_size(text), size, text)
        self.refused(parse_size, "", "k", "1KB", "1.5M", "-1", "1T", "1 k i", "9" * 16)

    def test_address(self) -> None:
        """Addresses of both families are kept as written; names are refused, since nothing is looked up."""
        for text in ("0.0.0.0", "127.0.0.1", "::", "fe80::1%eth0"):
            self.assertEqual(parse_address(f" {text} "), text)
        self.refused(parse_address, "", "localhost", "1.2.3", "1.2.3.4:80", "[::1]")

    def test_host(self) -> None:
        """A host is a name or an address."""
        for text in ("taky.local", "my_server-1", "münchen.example", "192.0.2.1", "2001:db8::1"):
            self.assertEqual(parse_host(f" {text} "), text)
        self.refused(parse_host, "", "a b", "a/b", "a:1", "http://a", "a\nb", "a" * 254, "\udcff")

    def test_node_id(self) -> None:
        """A node id can stand in an XML attribute's name."""
        for text in ("TAKY", "node-1.example_2", "a" * 64):
            self.assertEqual(parse_node_id(text), text)
        self.refused(parse_node_id, "", "a b", 'a"', "a>", "ü", "a" * 65)

    def test_multicast(self) -> None:
        """A group has a port, and may have an interface and a direction; it is heard if nothing else is said."""
        for text, spec in {
            "239.2.3.1:6969": MulticastSpec("239.2.3.1", 6969, None, "in"),
            "239.2.3.1:6969:out": MulticastSpec("239.2.3.1", 6969, None, "out"),
            " 224.10.10.1:17012:192.168.1.5 ": MulticastSpec("224.10.10.1", 17012, "192.168.1.5", "in"),
            "239.2.3.1:6969:10.0.0.1:both": MulticastSpec("239.2.3.1", 6969, "10.0.0.1", "both"),
        }.items():
            self.assertEqual(parse_multicast(text), spec)

    def test_multicast_refused(self) -> None:
        """What is wrong with a group is named, with the form that it should have."""
        for text, words in {
            "": "not a multicast group with its port",
            "239.2.3.1": "not a multicast group with its port",
            "239.2.3.1:in": "not a multicast group with its port",
            "both": "not a multicast group with its port",
            "239.2.3.1:1:10.0.0.1:both:x": "not a multicast group with its port",
            "239.2.3.1:1:a:b": "not a multicast group with its port",
            "10.0.0.1:6969": "'10.0.0.1' is not an IPv4 multicast address",
            "ff02::1:6969": "not a multicast group",
            "group:6969": "'group' is not an IPv4 multicast address",
            "239.2.3.1:0": "'0' is not a port",
            "239.2.3.1:6969:eth0": "'eth0' is not the IPv4 address of an interface",
            "239.2.3.1:6969:239.2.3.2": "'239.2.3.2' is not the IPv4 address of an interface",
            "239.2.3.1:6969:": "'' is not the IPv4 address of an interface",
            "239.2.3.1:6969:IN": "'IN' is not the IPv4 address of an interface",
        }.items():
            message = self.refused(parse_multicast, text)
            self.assertIn(words, message)
            self.assertIn("GROUP:PORT[:INTERFACE][:in|out|both]", message)

    def test_directions(self) -> None:
        """A group is heard, spoken to, or both."""
        found = {}
        for word in ("in", "out", "both"):
            spec = parse_multicast(f"239.2.3.1:6969:{word}")
            found[word] = (spec.hears, spec.speaks)
        self.assertEqual(found, {"in": (True, False), "out": (False, True), "both": (True, True)})

    def test_store(self) -> None:
        """A store is memory or an SQLite file, whose path is made absolute."""
        base = Path("/site")
        self.assertEqual(parse_store("memory:", base), "memory:")
        self.assertEqual(parse_store("sqlite:items.db", base), "sqlite:/site/items.db")
        self.assertEqual(parse_store(" sqlite: ../a:b.db ", base), "sqlite:/a:b.db")
        self.assertEqual(parse_store("sqlite:/var/items.db", base), "sqlite:/var/items.db")
        self.assertEqual(parse_store("sqlite:items.db"), f"sqlite:{Path.cwd() / 'items.db'}")
        self.refused(parse_store, "", "memory", "memory:x", "sqlite", "sqlite:", "sqlite: ", "mysql:x", "/var/items.db")

    def test_redis(self) -> None:
        """A store, or where nodes meet, can be a Redis that any client endpoint leads to."""
        for endpoint in ("tcp:localhost:6379", "unix:/run/redis/redis.sock", r"tls:\:\:1:6380:trustRoots=/etc/a b"):
            self.assertEqual(parse_redis_endpoint(f" redis:{endpoint} "), endpoint)
            self.assertEqual(parse_store(f"redis:{endpoint}"), f"redis:{endpoint}")
        for parse in (parse_redis_endpoint, parse_store):
            self.refused(parse, "redis", "redis:", "redis:localhost", "rediss:tcp:a:1", "redis:6379")
            self.assertIn("key redis in [taky]", self.refused(parse, "redis://localhost:6379"))
        self.refused(parse_redis_endpoint, "memory:", "tcp:localhost:6379", "")
        self.assertEqual(parse_redis_db(" 15 "), 15)
        self.refused(parse_redis_db, "-1", "65536", "a", "")

    def test_group_names(self) -> None:
        """Groups stand with commas between; no group at all is a word."""
        self.assertEqual(parse_group_names(" __ANON__ "), ("__ANON__",))
        self.assertEqual(parse_group_names("Red Cross, blau"), ("Red Cross", "blau"))
        self.assertEqual(parse_group_names("none"), ())
        self.assertEqual(parse_group_names("x" * 255), ("x" * 255,))
        self.refused(parse_group_names, "", ",", "a,,b", "a\x00", "x" * 256)

    def test_without_password(self) -> None:
        """An address is shown without what proves who one is."""
        self.assertEqual(without_password("redis://anna:hu/n@ter2@host/1"), "redis://(not shown)@host/1")
        self.assertEqual(without_password("redis://h/1?password=hunter2&db=1"), "redis://h/1?password=(not shown)&db=1")
        self.assertEqual(without_password("redis:tcp:host:1"), "redis:tcp:host:1")

    def test_url(self) -> None:
        """The address that clients are given has a scheme, a host and perhaps a port, and nothing behind it."""
        for text, url in {
            "https://tak.example:8443": "https://tak.example:8443",
            " HTTP://192.0.2.1/ ": "http://192.0.2.1",
            "https://[2001:db8::1]:65535": "https://[2001:db8::1]:65535",
        }.items():
            self.assertEqual(parse_url(text), url)
        self.refused(
            parse_url,
            *("", "tak.example:8443", "ftp://tak.example", "https://", "https://tak.example:0", "https://a:65536"),
            *("https://a/Marti", "https://a?b", "https://a b", "https://user@a", "https://[a]", "https://[::::]"),
            *("https://bücher.example", 'https://a"', "https://a:٣", "https://2001:db8::1"),
        )

    @given(st.text())
    def test_any_text(self, text: str) -> None:
        """Whatever the operator writes, a parser answers with a value or with what is allowed."""
        for parse in ALL:
            try:
                parse(text)
            except ValueError as error:
                self.assertIn("allowed: ", str(error))
