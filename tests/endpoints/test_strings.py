from __future__ import annotations

import socket

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import endpoints
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.endpoints.strings import check_number, interface_address, joined, named_keys, port_of, quoted, split
from taky_twisted.identity.errors import EndpointError

WORDS = st.text(st.sampled_from(list("ab0:=\\/. é")), max_size=8)


class SplitTests(SynchronousTestCase):
    def test_as_twisted(self) -> None:
        """Whoever knows Twisted's endpoint strings knows ours."""
        for description in (
            "ssl:8089",
            "ssl:port=8089:privateKey=/a/b.pem:certKey=c.pem",
            r"ssl:8089:interface=\:\:1",
            r"ssl:8089:inner=haproxy\:tcp\:8089\:interface=\\\:\\\:",
            r"a\=b:c\\d=e=f\:",
            "a::=b:c=",
            "",
            ":",
        ):
            self.assertEqual(split(description), endpoints._parse(description), description)

    def test_twice(self) -> None:
        """A key that is there twice is an error, where Twisted silently takes the last."""
        error = self.assertRaises(EndpointError, split, "ssl:8089:caCerts=a:caCerts=b")
        self.assertEqual(str(error), "caCerts= is there twice")

    def test_nul(self) -> None:
        """What can be in no file's name is refused in words, and not by whoever opens the file."""
        self.assertRaises(EndpointError, split, "ssl:8089:caCerts=a\0b")

    def test_lone_backslash(self) -> None:
        """A backslash at the very end stands for nothing."""
        self.assertEqual(split("unix:/a\\"), (["unix", "/a"], {}))

    @given(st.lists(WORDS, min_size=1), st.dictionaries(st.text("ab0:=\\", max_size=8), WORDS))
    def test_round_trip(self, words: list[str], keys: dict[str, str]) -> None:
        """What is written with `joined` comes back, from us and from Twisted, whatever characters are in it."""
        self.assertEqual(split(joined(words, keys)), (words, keys))
        self.assertEqual(endpoints._parse(joined(words, keys)), (words, keys))

    def test_quoted(self) -> None:
        """What means something in an endpoint string is escaped."""
        self.assertEqual(quoted(r"a:b=c\d"), r"a\:b\=c\\d")


class NamedKeysTests(SynchronousTestCase):
    KNOWN = ("port", "privateKey", "caCerts")

    def assert_error(self, words: list[str], keys: dict[str, str], expected: str) -> None:
        self.assertIn(expected, str(self.assertRaises(EndpointError, named_keys, words, keys, self.KNOWN)))

    def test_port(self) -> None:
        """The port needs no key."""
        self.assertEqual(named_keys(["8089"], {"caCerts": "a"}, self.KNOWN), {"port": "8089", "caCerts": "a"})
        self.assertEqual(named_keys([], {"port": "8089"}, self.KNOWN), {"port": "8089"})

    def test_port_twice(self) -> None:
        """The port is given once."""
        self.assert_error(["8089"], {"port": "8090"}, "the port is given twice")

    def test_unknown(self) -> None:
        """A mistyped key is answered with the one that was meant, however wrong its capitals."""
        self.assert_error([], {"privatekey": "x"}, "unknown key 'privatekey'; did you mean privateKey?")
        self.assert_error([], {"caCertsDir": "x"}, "did you mean caCerts?")
        self.assert_error([], {"zzz": "x"}, "unknown key 'zzz'; allowed are port, privateKey, caCerts")

    def test_stray(self) -> None:
        """An address whose colons are not escaped leaves strays, and it is said how to write it."""
        self.assert_error(["8089", "", "1"], {"interface": ""}, r"a ':' inside a value is written '\:'")
        self.assert_error([""], {}, "'' has no key in front of it")


class ValueTests(SynchronousTestCase):
    def test_ports(self) -> None:
        """A port is the first word or a key, under TLS and behind a load balancer as well."""
        for door, port in (
            ("tcp:8087", 8087),
            ("ssl:port=9", 9),
            ("haproxy:tcp:443:proxy_from=10.0.0.1", 443),
            (r"ssl:inner=haproxy\:tcp\:443:auth=cert", 443),
            (r"ssl:8089:inner=tcp\:port\=8089", 8089),
            ("haproxy", None),
            ("tcp:²", None),
            ("tcp:" + "9" * 5000, None),
            ("HAProxy:tcp:port=9", 9),
            ("tcp:0", None),
            ("systemd:domain=INET", None),
            ("tcp", None),
        ):
            self.assertEqual(port_of(door), port)

    def test_number(self) -> None:
        """A port is a whole number, not too large."""
        check_number("port", "0", 65535)
        check_number("port", "65535", 65535)
        for text in ("", "65536", "-1", "80x", "http", "8 0", "٣", "9" * 5000):
            self.assertRaises(EndpointError, check_number, "port", text, 65535)

    def test_addresses(self) -> None:
        """Addresses of both kinds are taken, and localhost."""
        loopback = socket.if_nameindex()[0][1]
        for text in ("127.0.0.1", "0.0.0.0", "::", "::1", "fe80::1%1", f"fe80::1%{loopback}"):
            self.assertEqual(interface_address(text), text)
        self.assertEqual(interface_address("localhost"), "127.0.0.1")

    def test_no_address(self) -> None:
        """The name of a network card or a host is no address, and it is said what is."""
        for text in ("eth0", "example.org", "300.1.1.1", ":::"):
            error = self.assertRaises(EndpointError, interface_address, text)
            self.assertIn(f"interface={text}: not an IP address like 127.0.0.1", str(error))

    def test_unknown_card(self) -> None:
        """An address on a network card that is not there is an error now, not when listening."""
        error = self.assertRaises(EndpointError, interface_address, "fe80::1%nosuch0")
        self.assertIn("no network interface nosuch0", str(error))
