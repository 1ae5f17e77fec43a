from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet import endpoints, reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.plugin import IPlugin
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from taky_twisted.endpoints import DoorEndpoint, EndpointError, TakTLSParser, TLSDefaults, server_endpoint
from taky_twisted.identity.proxied import NOT_BELIEVED
from taky_twisted.identity.revocation import Register
from tests.identity.pairs import Peer, PeerFactory
from tests.pki import PKI, ClientTLS, Credentials

HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 8089\r\n"
VERSIONS = (SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION)


def defaults_of(pki: PKI, **changes: Any) -> TLSDefaults:
    """Make what section [ssl] of a site would say."""
    said: dict[str, Any] = {
        "private_key": pki.key_path,
        "certificate": pki.certificate_path,
        "ca_certificates": pki.ca_path,
        **changes,
    }
    return TLSDefaults(**said)


class StringTests(SynchronousTestCase):
    """What strings are taken, and what is said about the others."""

    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())
        self.reactor = MemoryReactorClock()

    def listening(self, description: str, defaults: TLSDefaults | None = None) -> tuple[Any, ...]:
        """Listen, and return the port, backlog and interface that were asked of the reactor."""
        endpoint = server_endpoint(self.reactor, description, defaults)
        self.successResultOf(endpoint.listen(PeerFactory()))
        port, _, backlog, interface = self.reactor.tcpServers.pop()
        return port, backlog, interface

    def assert_error(self, description: str, *words: str, defaults: TLSDefaults | None = None) -> None:
        """The string is refused in one line that names it and has these words."""
        error = str(self.assertRaises(EndpointError, server_endpoint, self.reactor, description, defaults))
        self.assertTrue(error.startswith("endpoint "), error)
        self.assertNotIn("\n", error)
        for each in words:
            self.assertIn(each, error)

    def test_port_is_enough(self) -> None:
        """In a site with keys ``ssl:8089`` is enough; it listens everywhere, with room for everybody to come back."""
        self.assertEqual(self.listening("ssl:8089", defaults_of(self.pki)), (8089, 1024, ""))
        self.assertEqual(self.listening("ssl:port=8089", defaults_of(self.pki)), (8089, 1024, ""))

    def test_all_in_the_string(self) -> None:
        """Without a site the string says everything, and means the same as ``taktls:``."""
        for prefix in ("ssl", "SSL", "taktls"):
            described = self.pki.endpoint(f"{prefix}:8089", interface="::1", backlog="5", crl=self.pki.crl_path)
            self.assertEqual(self.listening(described), (8089, 5, "::1"))

    def test_others(self) -> None:
        """Any other endpoint is Twisted's, with the same room for clients."""
        self.assertEqual(self.listening("tcp:8087"), (8087, 1024, ""))
        self.assertEqual(self.listening("tcp:8087:127.0.0.1:9"), (8087, 9, "127.0.0.1"))
        self.assertEqual(self.listening(r"tcp:8087:interface=\:\:"), (8087, 1024, "::"))
        self.assertEqual(self.listening("tcp6:8087"), (8087, 1024, "::"))
        self.assertEqual(self.listening("haproxy:tcp:8087"), (8087, 1024, ""))
        path = f"/tmp/{'='}x"
        unix = server_endpoint(self.reactor, f"unix:{path.replace('=', chr(92) + '=')}:mode=600")
        self.successResultOf(unix.listen(PeerFactory()))
        self.assertEqual(self.reactor.unixServers[0][0], path)

    def test_balancers(self) -> None:
        """Without a word about them, load balancers are those of the site, or else only those on this machine."""
        site = defaults_of(self.pki, proxy_from=(ip_network("10.1.0.0/16"),))
        for described, defaults, believed in (
            (r"ssl:8089:inner=haproxy\:tcp\:8089", defaults_of(self.pki), ["127.0.0.0/8", "::1/128"]),
            ("haproxy:tcp:8087", None, ["127.0.0.0/8", "::1/128"]),
            ("haproxy:tcp:8087", site, ["10.1.0.0/16"]),
            ("haproxy:tcp:8087:proxy_from=192.0.2.7, 192.0.2.8", site, ["192.0.2.7/32", "192.0.2.8/32"]),
            (r"haproxy:tcp:8087:proxy_from=fd00\:\:/8", site, ["fd00::/8"]),
            (r"ssl:inner=haproxy\:tcp\:8089:proxy_from=none", site, []),
            (r"ssl:inner=haproxy\:tcp\:8089\:proxy_from=10.0.0.1", site, ["10.0.0.1/32"]),
        ):
            endpoint = server_endpoint(self.reactor, described, defaults)
            assert isinstance(endpoint, DoorEndpoint)
            assert endpoint.believed is not None
            self.assertEqual([str(each) for each in endpoint.believed], believed, described)

    def test_interfaces(self) -> None:
        """What comes out is an endpoint wherever Twisted wants one."""
        endpoint = server_endpoint(self.reactor, "ssl:8089", defaults_of(self.pki))
        verifyObject(IStreamServerEndpoint, endpoint)
        verifyObject(IStreamServerEndpointStringParser, TakTLSParser())
        self.assertTrue(IPlugin.providedBy(TakTLSParser()))

    def test_taktls(self) -> None:
        """``taktls:`` works in every Twisted program."""
        self.patch(endpoints, "getPlugins", lambda interface: [TakTLSParser()])
        endpoint = endpoints.serverFromString(self.reactor, self.pki.endpoint("taktls:8089"))
        assert isinstance(endpoint, DoorEndpoint)
        assert endpoint.tls is not None
        self.assertEqual(endpoint.tls.settings.client_cert, "required")
        error = self.assertRaises(EndpointError, endpoints.serverFromString, self.reactor, "taktls:8089:caCert=x")
        self.assertIn("endpoint taktls:8089:caCert=x: unknown key 'caCert'; did you mean caCerts?", str(error))

    def test_keys(self) -> None:
        """Every key arrives where it counts, and stands above what the site says."""
        defaults = defaults_of(
            self.pki, client_cert="optional", alpn=(b"http/1.1",), tells_refused=True, key_password="no"
        )
        endpoint = server_endpoint(
            self.reactor,
            f"ssl:8089:crl={self.pki.crl_path}:minTLS=1.3:clientCert=required:register={self.pki.register_path}",
            defaults,
        )
        assert isinstance(endpoint, DoorEndpoint)
        assert endpoint.tls is not None
        settings = endpoint.tls.settings
        self.assertEqual(
            (settings.client_cert, settings.min_version, settings.alpn), ("required", "TLSv1_3", (b"http/1.1",))
        )
        self.assertTrue(settings.tells_refused)
        self.assertEqual(str(settings.private_key), f"[ssl] key {os.path.abspath(self.pki.key_path)}")
        assert settings.register is not None
        self.assertEqual(len(settings.register), 1)

    def test_shared_register(self) -> None:
        """Doors share the site's register; one that the string names stands above it."""
        register = Register(self.pki.register_path)
        for described, same in (("ssl:8089", True), (f"ssl:8089:certDb={self.pki.register_path}", False)):
            endpoint = server_endpoint(self.reactor, described, defaults_of(self.pki, register=register))
            assert isinstance(endpoint, DoorEndpoint)
            assert endpoint.tls is not None
            self.assertEqual(endpoint.tls.settings.register is register, same)

    def test_paths_are_absolute(self) -> None:
        """Files are found again after the process has changed its directory."""
        name = os.path.relpath(self.pki.ca_path)
        endpoint = server_endpoint(self.reactor, f"ssl:8089:caCerts={name}", defaults_of(self.pki))
        assert isinstance(endpoint, DoorEndpoint)
        assert endpoint.tls is not None
        self.assertTrue(all(os.path.isabs(path) for path in endpoint.tls.settings.paths))

    def test_one_file(self) -> None:
        """As with Twisted, one file may hold key and certificate."""
        both = self.pki.write("both.pem", self.pki.server.key_pem() + self.pki.server.pem)
        for key in ("privateKey", "certKey"):
            self.listening(f"ssl:8089:{key}={both}:caCerts={self.pki.ca_path}")

    def test_encrypted_key(self) -> None:
        """An encrypted key needs its password, from the string or the site; no message shows it."""
        self.pki.write("server.key", self.pki.server.key_pem("secret"))
        self.listening("ssl:8089:keyPassword=secret", defaults_of(self.pki))
        self.listening("ssl:8089", defaults_of(self.pki, key_password="secret"))
        self.assert_error("ssl:8089", "[ssl] key", "the key is encrypted", defaults=defaults_of(self.pki))
        for described in (
            "ssl:8089:keyPassword=guess",
            "ssl:8089:keypassword=guess",
            "ssl:8089:keyPassword=guess:port=1",
        ):
            error = self.assertRaises(EndpointError, server_endpoint, self.reactor, described, defaults_of(self.pki))
            self.assertNotIn("guess", str(error))
        for wrong in ("ssl:keyPassword=guess:a=1:a=2", "sll:8089:keyPassword=guess", "tcp:8089:keyPassword=guess"):
            error = self.assertRaises(EndpointError, server_endpoint, self.reactor, wrong)
            self.assertNotIn("guess", str(error))
        error = self.assertRaises(EndpointError, server_endpoint, self.reactor, "ssl:keyPassword=guess:a=1:a=2")
        self.assertEqual(str(error), "endpoint ssl: a= is there twice")

    def test_pkcs12(self) -> None:
        """A PKCS#12 file serves, from the string or from the site; PEM files that are named stand above it."""
        store = self.pki.write("server.p12", self.pki.server.pkcs12("atakatak"))
        ca = f"caCerts={self.pki.ca_path}"
        self.listening(f"ssl:8089:pkcs12={store}:keyPassword=atakatak:{ca}")
        only_store = TLSDefaults(pkcs12=store, pkcs12_password="atakatak", ca_certificates=self.pki.ca_path)
        self.listening("ssl:8089", only_store)
        self.assert_error("ssl:8089:keyPassword=x", "[ssl] server_p12", "password is wrong", defaults=only_store)
        broken = defaults_of(self.pki, pkcs12="/nowhere.p12")
        self.listening("ssl:8089", broken)
        self.assert_error(f"ssl:8089:pkcs12={store}:certKey=x", "pkcs12= and certKey= exclude each other")

    def test_without_effect(self) -> None:
        """Keys of Twisted's that mean nothing here are taken, with a warning that says what counts instead."""
        with capturedLogs() as events:
            self.listening("ssl:8089:dhParameters=dh.pem:sslmethod=TLSv1_METHOD", defaults_of(self.pki))
        self.assertEqual(
            [(event["log_level"].name, event["key"]) for event in events],
            [("warn", "dhParameters"), ("warn", "sslmethod")],
        )

    def test_bad_strings(self) -> None:
        """What is wrong with a string is said with the string, the key, and what is allowed."""
        pki = self.pki
        for described, *words in (
            ("ssl", "no port"),
            ("ssl:", "'' has no key"),
            ("ssl:80x", "port=80x: not a whole number from 0 to 65535"),
            ("ssl:70000", "port=70000"),
            ("ssl:8089:backlog=many", "backlog=many"),
            ("ssl:8089:interface=eth0", "interface=eth0: not an IP address"),
            ("ssl:8089:interface=::1", "has no key in front of it", r"'\:'"),
            ("ssl:8089:clientCert=maybe", "clientCert=maybe: allowed are required, optional, none"),
            ("ssl:8089:minTLS=1.1", "minTLS=1.1: allowed are TLSv1_2, 1.2, TLSv1_3, 1.3"),
            ("ssl:8089:privatKey=x", "unknown key 'privatKey'; did you mean privateKey?"),
            ("ssl:8089:caCertsDir=x", "did you mean caCerts?"),
            (f"ssl:8089:register={pki.register_path}:certDb=x", "register= and certDb= are the same"),
            ("ssl:8089:register=/nowhere", "the certificate register /nowhere cannot be read"),
            (f"ssl:8089:clientCert=none:crl={pki.crl_path}", "crl= has no effect with clientCert=none"),
            ("ssl:8089:auth=maybe", "auth=maybe: allowed are none, cert, password, cert+password"),
            ("ssl:8089:auth=cert:clientCert=optional", "auth=cert and clientCert=optional contradict each other"),
            ("ssl:8089:auth=cert+password:clientCert=none", "contradict each other; leave clientCert= out"),
            ("ssl:8089:auth=password:clientCert=required", "contradict each other"),
            ("ssl:8089:auth=none:clientCert=required", "contradict each other"),
            ("tcp:8087:auth=password", "auth=password counts only inside TLS", "use ssl:"),
            ("tcp:8087:auth=cert", "auth=cert counts only inside TLS"),
            ("unix:/x:auth=cert+password", "counts only inside TLS"),
            ("haproxy:tcp:8087:auth=password", "counts only inside TLS"),
            ("tcp:8087:auth=x", "auth=x: allowed are none, cert, password, cert+password"),
            (r"ssl:inner=tcp\:1\:auth=password", "unknown key 'auth'"),
            ("tcp:", "no port"),
            ("tcp:x", "port=x"),
            ("tcp:8087:interfce=1", "did you mean interface?"),
            ("tcp:8087:interface=::1", "interface is given twice", r"'\:'"),
            ("tcp:8087:a:b:c", "'c' is one word too many"),
            ("unix:/x:mode=rw", "Twisted does not take it"),
            ("systemd:domain=INET:index=7", "Twisted does not take it"),
            ("nosuch:1", "Unknown endpoint type: 'nosuch'"),
            ("", "Unknown endpoint type"),
            ("haproxy", "Twisted does not take it"),
            ("haproxy:tcp:x", "port=x"),
            ("haproxy:ssl:8089", r"write ssl:inner=haproxy\:tcp\:PORT", "would not know its clients by their certif"),
            ("haproxy:taktls:8089", r"write ssl:inner=haproxy\:tcp\:PORT"),
            (r"ssl:8089:inner=tcp\:8090", "port= and inner= exclude each other"),
            (r"ssl:8089:inner=systemd\:domain=INET\:name=x", "port= and inner= exclude each other"),
            (r"ssl:reusePort=yes:inner=tcp\:8089", "reusePort= and inner= exclude each other"),
            ("tcp:8087:reusePort=maybe", "reusePort=maybe: allowed are yes and no"),
            ("unix:/x:reusePort=yes", "unknown key 'reusePort'"),
            ("tcp:8087:proxy_from=10.0.0.1", "proxy_from= is for doors behind a load balancer"),
            ("ssl:8089:proxy_from=10.0.0.1", "proxy_from= is for doors behind a load balancer"),
            (r"ssl:inner=tcp\:8089:proxy_from=10.0.0.1", "proxy_from= is for doors behind a load balancer"),
            ("haproxy:tcp:8087:proxy_from=here", "proxy_from=here: 'here' is no address and no network"),
            ("haproxy:tcp:8087:proxy_from=10.0.0.1/8", "10.0.0.1/8 has host bits set"),
            (
                r"ssl:proxy_from=10.0.0.1:inner=haproxy\:tcp\:8089\:proxy_from=10.0.0.1",
                "proxy_from= is there twice, inside of inner= and outside",
            ),
            (r"ssl:interface=127.0.0.1:inner=tcp\:8089", "interface= and inner= exclude each other"),
            (r"ssl:inner=unix\:/x", "allowed are tcp, tcp6, systemd, each also after 'haproxy:'"),
            ("ssl:inner=haproxy", "allowed are tcp"),
            ("ssl:inner=port=8089", "allowed are tcp"),
            (r"ssl:inner=haproxy\:unix\:/x", "allowed are tcp"),
            (r"ssl:inner=tcp\:x", "inner=tcp:x: port=x"),
            (r"ssl:inner=haproxy\:tcp\:8089\:backlog=x", "backlog=x"),
            (r"ssl:inner=tcp\:1\:a=1\:a=2", "a= is there twice"),
        ):
            self.assert_error(described, *words, defaults=defaults_of(pki))

    def test_auth(self) -> None:
        """What a door takes as proof decides what it asks for in the handshake."""
        good = defaults_of(self.pki)
        told = replace(good, client_cert="optional", tells_refused=True)
        for described, defaults, client_cert in (
            ("ssl:8089:auth=none", good, "none"),
            ("ssl:8089:auth=none:clientCert=optional", good, "optional"),
            ("ssl:8089:auth=cert", replace(good, client_cert="optional"), "required"),
            ("ssl:8089:auth=password", good, "optional"),
            ("ssl:8089:auth=password:clientCert=none", good, "none"),
            ("ssl:8089:auth=cert+password", good, "required"),
            ("ssl:8089:auth=cert", told, "optional"),
            ("ssl:8089:auth=cert+password", told, "optional"),
            ("ssl:8089:auth=cert+password:clientCert=required", told, "required"),
        ):
            door: Any = server_endpoint(self.reactor, described, defaults)
            self.assertEqual(door.tls.settings.client_cert, client_cert, described)
            self.assertEqual(door.auth, described.split(":")[2].partition("=")[2])
        self.assertIsNone(server_endpoint(self.reactor, "ssl:8089", good).auth)  # type: ignore[attr-defined]

    def test_auth_elsewhere(self) -> None:
        """Other programs know no accounts: there such a string is refused rather than open to all."""
        error = self.assertRaises(
            EndpointError, TakTLSParser().parseStreamServer, self.reactor, "8089", auth="password"
        )
        self.assertIn("auth= is for the doors of this server", str(error))

    def test_bad_files(self) -> None:
        """What is wrong with a file is said with the setting and the file."""
        pki = self.pki
        good = defaults_of(pki)
        garbage, empty = pki.write("garbage.pem", b"\x00garbage"), pki.write("empty.pem", b"")
        for described, *words in (
            ("ssl:8089:privateKey=/nowhere.pem", "privateKey /nowhere.pem cannot be read: No such file"),
            (f"ssl:8089:privateKey={garbage}", "no private key in it"),
            (f"ssl:8089:certKey={empty}", "no certificate in it"),
            (f"ssl:8089:certKey={pki.client_certificate_path}", "(CN=ALPHA-1) does not belong to the key in [ssl] key"),
            (f"ssl:8089:caCerts={garbage}", "caCerts", "no certificate in it"),
            (f"ssl:8089:crl={garbage}", "crl", "not a certificate revocation list"),
            (f"ssl:8089:extraCertChain={garbage}", "extraCertChain", "no certificate in it"),
        ):
            self.assert_error(described, *words, defaults=good)
        self.assert_error("ssl:8089", "add privateKey= and certKey=, or set key and cert in section [ssl]")
        alone = TLSDefaults(private_key=pki.key_path, certificate=pki.certificate_path)
        self.assert_error("ssl:8089", "clientCert=required needs", "add caCerts=", defaults=alone)
        self.listening("ssl:8089:clientCert=none", alone)

    def test_light(self) -> None:
        """Twisted can list us among its plugins without loading OpenSSL or installing a reactor."""
        code = (
            "import sys, taky_twisted.endpoints as e; e.TakTLSParser()\n"
            "print([m for m in ('OpenSSL', 'cryptography', 'twisted.internet.reactor') if m in sys.modules])"
        )
        path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=path)
        self.assertEqual(found.stdout.strip(), "[]")


class Picky(PeerFactory):
    """An application that admits nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[IAddress] = []

    def admits(self, address: IAddress) -> bool:
        self.asked.append(address)
        return False


class Telling(PeerFactory):
    """An application that remembers whom the door has refused."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str]] = []

    def refused(self, address: Any, reason: str) -> None:
        self.told.append((address.host, reason))


class Refusing(Factory):
    """An application that refuses in Twisted's way."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> None:
        return None


class LoopbackTestCase(TestCase):
    """Doors on real sockets, with real clients."""

    def setUp(self) -> None:
        self.pki = PKI(self.mktemp())
        self.defaults = defaults_of(self.pki, register=Register(self.pki.register_path))

    async def listen(self, description: str, factory: Any, defaults: TLSDefaults | None = None) -> Any:
        """Open a door; returns its port number, and its TLS."""
        endpoint = server_endpoint(reactor, description, defaults or self.defaults)
        port: IListeningPort = await endpoint.listen(factory)
        self.addCleanup(port.stopListening)
        return cast("Any", port.getHost()).port, getattr(endpoint, "tls", None)

    async def connect(
        self, port: int, client: ClientTLS | None, *, first: bytes = b"", host: str = "127.0.0.1"
    ) -> Peer:
        """Connect, saying something before TLS perhaps."""
        plain: Any = endpoints.HostnameEndpoint(reactor, host, port)
        factory = PeerFactory(b"")
        if client is not None:
            plain = endpoints.wrapClientTLS(client, cast("Any", Preamble(plain, first)))
        return cast("Peer", await plain.connect(factory))

    async def ended(self, server: Peer, client: Peer) -> None:
        """Wait until both ends know that the connection is over."""
        await gatherResults([server.lost, client.lost])

    async def close(self, server: Peer, client: Peer) -> None:
        """Close from the client's side and wait for both."""
        assert client.transport is not None
        client.transport.loseConnection()
        await self.ended(server, client)

    async def admitted(self, port: int, factory: PeerFactory, client: ClientTLS) -> bool:
        """Say whether a client completes the handshake on our side; the connection is over afterwards."""
        factory.peers.clear()
        end = await self.connect(port, client)
        while not factory.peers:
            await soon()
        (server,) = factory.peers
        done: Deferred[None] = Deferred()
        for each in (server.ready, server.lost):
            each.addCallback(lambda _: None if done.called else done.callback(None))
        await done
        if server.completed:
            await self.close(server, end)
        else:
            await self.ended(server, end)
        return server.completed


class Preamble:
    """A client endpoint that says something before TLS begins, as a load balancer does."""

    def __init__(self, inner: Any, first: bytes) -> None:
        self.inner = inner
        self.first = first

    def connect(self, factory: Any) -> Any:
        first, build = self.first, factory.buildProtocol

        def built(address: IAddress) -> Any:
            protocol = build(address)
            connect = protocol.makeConnection

            def make_connection(transport: Any) -> None:
                transport.write(first)
                connect(transport)

            protocol.makeConnection = make_connection
            return protocol

        if first:
            factory.buildProtocol = built
        return self.inner.connect(factory)


def soon() -> Deferred[None]:
    """Wait for another turn of the reactor."""
    turn: Deferred[None] = Deferred()
    cast("Any", reactor).callLater(0, turn.callback, None)
    return turn


class AccessTests(LoopbackTestCase):
    async def matrix(self, client_cert: str) -> dict[str, list[bool]]:
        """Say for each kind of client, with TLS 1.2 and 1.3, whether it gets in."""
        factory = PeerFactory()
        port, _ = await self.listen(f"ssl:0:interface=127.0.0.1:clientCert={client_cert}", factory)
        shown: dict[str, Credentials | None] = {
            "none": None,
            "good": self.pki.client,
            "foreign": self.pki.foreign,
            "expired": self.pki.expired,
            "revoked": self.pki.revoked,
        }
        found: dict[str, list[bool]] = {}  # not comprehensions: Python 3.10 cannot await in one inside another
        for name, credentials in shown.items():
            found[name] = [
                await self.admitted(port, factory, ClientTLS(self.pki.ca, credentials, version=version))
                for version in VERSIONS
            ]
        return found

    async def test_required(self) -> None:
        """Where certificates are required a good one opens the door, and nothing else."""
        found = await self.matrix("required")
        self.assertEqual([name for name, admitted in found.items() if admitted == [True, True]], ["good"])
        self.assertEqual(len([name for name, admitted in found.items() if admitted == [False, False]]), 4)

    async def test_optional(self) -> None:
        """Where certificates are optional, none is good enough, and a bad one is not."""
        found = await self.matrix("optional")
        self.assertEqual([name for name, admitted in found.items() if admitted == [True, True]], ["none", "good"])
        self.assertEqual(len([name for name, admitted in found.items() if admitted == [False, False]]), 3)

    async def test_none(self) -> None:
        """Where nobody is asked for a certificate everybody gets in."""
        self.assertEqual(set(map(tuple, (await self.matrix("none")).values())), {(True, True)})

    async def test_alpn(self) -> None:
        """A client that offers protocols connects."""
        factory = PeerFactory()
        port, _ = await self.listen("ssl:0:interface=127.0.0.1", factory)
        for version in VERSIONS:
            client = ClientTLS(self.pki.ca, self.pki.client, version=version, alpn=(b"h2", b"http/1.1"))
            self.assertTrue(await self.admitted(port, factory, client))

    async def test_another_implementation(self) -> None:
        """A client of another make (Python's own ssl, with the system's OpenSSL) gets in too, and hears us."""
        factory = PeerFactory()
        port, _ = await self.listen("ssl:0:interface=127.0.0.1", factory)
        context = ssl.create_default_context(cafile=self.pki.ca_path)
        context.load_cert_chain(self.pki.client_certificate_path, self.pki.client_key_path)

        def talk() -> bytes:
            with (
                socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as secure,
            ):
                return secure.recv(100)

        self.assertEqual(await deferToThread(talk), b"hello")
        (server,) = factory.peers
        await server.lost
        self.assertEqual(str(server.principal), "ALPHA-1")

    async def test_plain_text(self) -> None:
        """Who forgets TLS is closed, and the log can say what he spoke."""
        factory = PeerFactory()
        port, _ = await self.listen("ssl:0:interface=127.0.0.1", factory)
        end = await self.connect(port, None)
        assert end.transport is not None
        end.transport.write(b"<?xml version='1.0'?><event/>")
        await end.lost
        (server,) = factory.peers
        await server.lost
        self.assertIn("plain XML", server.why or "")


class LimitTests(LoopbackTestCase):
    async def refused(self, description: str, factory: Any, first: bytes = b"") -> None:
        """Nobody gets in, the connection is closed without a word, and nothing is in the log."""
        port, _ = await self.listen(description, factory)
        with capturedLogs() as events:
            end = await self.connect(port, None)
            assert end.transport is not None
            end.transport.write(first)
            await end.lost
        self.assertEqual(end.received, b"")
        self.assertEqual([event for event in events if "log_failure" in event], [])
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_admits(self) -> None:
        """Who is not admitted costs no handshake, with and without a load balancer."""
        for described in (
            "ssl:0:interface=127.0.0.1",
            r"ssl:inner=haproxy\:tcp\:0\:interface=127.0.0.1",
            "haproxy:tcp:0:interface=127.0.0.1",
        ):
            factory = Picky()
            proxied = "haproxy" in described
            await self.refused(described, factory, HEADER if proxied else b"")
            asked = [address.host for address in factory.asked]  # type: ignore[attr-defined]
            self.assertEqual((asked, factory.peers), (["192.0.2.7" if proxied else "127.0.0.1"], []))

    async def test_build_protocol(self) -> None:
        """Refusing in Twisted's way works as well, where Twisted itself would let the peer in or break."""
        for described in ("ssl:0:interface=127.0.0.1", r"ssl:inner=haproxy\:tcp\:0\:interface=127.0.0.1"):
            await self.refused(described, Refusing(), HEADER if "haproxy" in described else b"")

    async def test_not_believed(self) -> None:
        """Only a load balancer that proxy_from names may say who a client is; no name at all is nobody."""
        for described in (
            r"ssl:0:inner=haproxy\:tcp\:0\:interface=127.0.0.1:proxy_from=192.0.2.0/24",
            "haproxy:tcp:0:interface=127.0.0.1:proxy_from=none",
        ):
            factory = Telling()
            await self.refused(described, factory, HEADER)
            self.assertEqual((factory.told, factory.peers), ([("127.0.0.1", NOT_BELIEVED)], []))


class SocketTests(LoopbackTestCase):
    async def serves(self, description: str, *, host: str = "127.0.0.1", first: bytes = b"") -> Peer:
        """Connect once with a good certificate, and return the server's end after it is over."""
        factory = PeerFactory()
        port, _ = await self.listen(description, factory)
        end = await self.connect(port, ClientTLS(self.pki.ca, self.pki.client), host=host, first=first)
        while not end.received:
            await soon()
        self.assertEqual(end.received, b"hello")
        (server,) = factory.peers
        assert server.transport is not None
        self.peer = cast("Any", server.transport.getPeer())
        await self.close(server, end)
        self.assertEqual(str(server.principal), "ALPHA-1")
        return server

    @contextmanager
    def ipv6(self) -> Iterator[None]:
        """Skip the test on a machine without IPv6."""
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError as error:
            raise SkipTest(f"no IPv6 here: {error}") from error
        yield

    async def test_inner_tcp(self) -> None:
        """TLS goes on a socket that inner= describes."""
        await self.serves(r"ssl:inner=tcp\:0\:interface=127.0.0.1")

    async def test_inner_haproxy(self) -> None:
        """Behind a load balancer the client's own address is known, and TLS begins after the header."""
        await self.serves(r"ssl:0:inner=haproxy\:tcp\:0\:interface=127.0.0.1", first=HEADER)
        self.assertEqual((self.peer.host, self.peer.port), ("192.0.2.7", 4711))

    async def test_inner_systemd(self) -> None:
        """A socket that systemd holds serves too."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        from twisted.python.systemd import ListenFDs

        self.patch(endpoints._SystemdParser, "_sddaemon", ListenFDs([os.dup(listener.fileno())], ("cot",)))
        await self.serves(r"ssl:inner=systemd\:domain=INET\:index=0")

    async def test_ipv6(self) -> None:
        """A door on an IPv6 address serves IPv6."""
        with self.ipv6():
            await self.serves(r"ssl:0:interface=\:\:1", host="::1")
            await self.serves(r"ssl:inner=tcp\:0\:interface=\\\:\\\:1", host="::1")

    async def test_dual_stack(self) -> None:
        r"""A door on ``\:\:`` serves IPv6 and, where the system is set so (as usual), IPv4 as well."""
        with self.ipv6():
            await self.serves(r"ssl:0:interface=\:\:", host="::1")
            with open("/proc/sys/net/ipv6/bindv6only", encoding="ascii") as setting:
                if setting.read().strip() == "1":
                    raise SkipTest("this system keeps IPv4 out of IPv6 sockets")
            await self.serves(r"ssl:0:interface=\:\:", host="127.0.0.1")
            self.assertEqual(self.peer.host, "::ffff:127.0.0.1")

    async def test_encrypted_key(self) -> None:
        """A door with an encrypted key serves."""
        self.pki.write("server.key", self.pki.server.key_pem("secret"))
        await self.serves("ssl:0:interface=127.0.0.1:keyPassword=secret")

    async def test_pkcs12(self) -> None:
        """A door with a PKCS#12 file serves."""
        store = self.pki.write("server.p12", self.pki.server.pkcs12("atakatak"))
        await self.serves(f"ssl:0:interface=127.0.0.1:pkcs12={store}:keyPassword=atakatak")

    async def test_reload(self) -> None:
        """Certificates are replaced while clients are connected; they stay, and newcomers see the new one."""
        factory = PeerFactory()
        port, tls = await self.listen("ssl:0:interface=127.0.0.1", factory)
        client = ClientTLS(self.pki.ca, self.pki.client)
        end = await self.connect(port, client)
        while not end.received:
            await soon()
        (server,) = factory.peers
        new = self.pki.ca.issue("localhost", server=True)
        self.pki.write("server.pem", new.pem)
        self.assertRaises(EndpointError, tls.reload)
        self.pki.write("server.key", new.key_pem())
        tls.reload()
        self.assertTrue(await self.admitted(port, factory, client))
        shown = [each.get_peer_certificate(as_cryptography=True) for each in client.connections]
        serials = [each.serial_number for each in shown if each is not None]
        self.assertEqual(serials, [self.pki.server.certificate.serial_number, new.certificate.serial_number])
        assert end.transport is not None
        end.transport.write(b"still here")
        while not server.received:
            await soon()
        self.assertEqual(server.received, b"still here")
        await self.close(server, end)

    async def test_revoked_session(self) -> None:
        """Who is revoked and comes back with an old session is caught as soon as the handshake is complete."""
        for version in VERSIONS:
            self.pki.write_register(V=[self.pki.client])
            factory = PeerFactory()
            port, tls = await self.listen("ssl:0:interface=127.0.0.1", factory)
            tls.reload()
            client = ClientTLS(self.pki.ca, self.pki.client, version=version)
            end = await self.connect(port, client)
            while not end.received:
                await soon()
            client.session = client.connections[-1].get_session()
            await self.close(factory.peers[0], end)
            self.pki.write_register(R=[self.pki.client])
            tls.settings.register.reload()
            self.assertTrue(await self.admitted(port, factory, client))
            (server,) = factory.peers
            assert server.handshake is not None
            self.assertIsNone(server.handshake.certificate, "the session was not resumed")
            self.assertIn("revoked", server.refusal or "")
