"""Make the endpoint that a string describes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

from taky_twisted.endpoints.sockets import (
    NO_PROXY,
    OF_THE_SOCKET,
    TLS_PREFIXES,
    inner_endpoint,
    socket_endpoint,
    twisted_endpoint,
)
from taky_twisted.endpoints.strings import joined, named_keys, split
from taky_twisted.identity.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorCore

    from taky_twisted.identity.credentials import Source
    from taky_twisted.identity.proofs import Auth
    from taky_twisted.identity.proxied import Network
    from taky_twisted.identity.revocation import Register
    from taky_twisted.identity.tls import ClientCert, MutualTLS, TLSSettings

_TLS_KEYS = (
    "port",
    "privateKey",
    "certKey",
    "extraCertChain",
    "pkcs12",
    "keyPassword",
    "caCerts",
    "clientCert",
    "auth",
    "crl",
    "register",
    "certDb",
    "minTLS",
    "interface",
    "backlog",
    "reusePort",
    "inner",
    "proxy_from",
    "dhParameters",
    "sslmethod",
)
_WITHOUT_EFFECT = {
    "dhParameters": "keys are agreed on with ECDHE",
    "sslmethod": "minTLS= says which versions are spoken",
}
_CLIENT_CERT = ("required", "optional", "none")
_AUTH = {
    "none": ("none", "optional"),
    "cert": ("required",),
    "password": ("optional", "none"),
    "cert+password": ("required",),
}
"""How peers prove who they are, and which values of ``clientCert`` go with that, the usual one first."""
_MIN_TLS = {"TLSv1_2": "TLSv1_2", "1.2": "TLSv1_2", "TLSv1_3": "TLSv1_3", "1.3": "TLSv1_3"}


@dataclass(frozen=True, slots=True)
class TLSDefaults:
    """What a string does not say itself, from ``taky.conf``; most of it for ``ssl:``, from the section [ssl]."""

    private_key: str | None = None
    """PEM file; key ``key``."""
    certificate: str | None = None
    """PEM file; key ``cert``."""
    key_password: str | None = None
    """Key ``key_pw``."""
    pkcs12: str | None = None
    """File with key and certificate, used if there is no ``certificate``; key ``server_p12``."""
    pkcs12_password: str | None = None
    """Key ``server_p12_pw``."""
    ca_certificates: str | None = None
    """PEM file or folder; key ``ca``."""
    register: Register | None = None
    """Serials that are revoked; doors share it. From key ``cert_db``."""
    client_cert: ClientCert = "required"
    """Key ``client_cert_required``; on some doors ``optional``."""
    alpn: tuple[bytes, ...] = ()
    """Protocols to agree on with clients that offer them, best first."""
    tells_refused: bool = False
    """See `TLSSettings.tells_refused`."""
    proxy_from: tuple[Network, ...] | None = None
    """Load balancers that are believed, key ``proxy_from`` in [taky]; None: those on this machine."""


@implementer(IStreamServerEndpoint)
class DoorEndpoint:
    """A listening socket, whom it admits, the PROXY header of a load balancer if there is one, and TLS."""

    def __init__(
        self,
        reactor: Any,
        inner: IStreamServerEndpoint,
        *,
        believed: Sequence[Network] | None = None,
        tls: MutualTLS | None = None,
        auth: Auth | None = None,
    ) -> None:
        self._reactor = reactor
        self._inner = inner
        self.believed = believed
        """Where the load balancers are whose PROXY header is believed; None for a door that wants no header."""
        self.tls = tls
        """The door's TLS, to be reloaded; None for a door without."""
        self.auth = auth
        """How peers prove who they are, if the string says so."""

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen; a factory with ``admits(address) -> bool`` is asked before anything is done for a connection."""
        from taky_twisted.identity.proxied import ProxiedFactory
        from taky_twisted.identity.transport import AdmissionFactory, TLSFactory

        behind = protocolFactory
        if self.tls is not None:
            behind = TLSFactory(self.tls, protocolFactory, self._reactor)
        if self.believed is None:
            return self._inner.listen(AdmissionFactory(behind, protocolFactory))
        return self._inner.listen(ProxiedFactory(behind, protocolFactory, self.believed, self._reactor))


@implementer(IPlugin, IStreamServerEndpointStringParser)
class TakTLSParser:
    """``taktls:`` for any Twisted program: TLS that asks its clients for certificates."""

    prefix = "taktls"

    def parseStreamServer(self, reactor: IReactorCore, *args: object, **kwargs: object) -> DoorEndpoint:
        """Make the endpoint of an already split string."""
        words = [str(each) for each in args]
        keys = {key: str(value) for key, value in kwargs.items()}
        if "auth" in keys:
            raise EndpointError("auth= is for the doors of this server: other programs know nothing of its accounts")
        return _tls_endpoint(reactor, self.prefix, words, keys, TLSDefaults())


def server_endpoint(reactor: Any, description: str, defaults: TLSDefaults | None = None) -> IStreamServerEndpoint:
    """Make the endpoint that a string describes.

    Args:
        reactor: What it will listen with.
        description: ``ssl:...`` and ``taktls:...`` are TLS with client certificates; anything else is Twisted's.
        defaults: What an ``ssl:`` string leaves out.

    Raises:
        EndpointError: The string, or a file that it names, cannot be used.
    """
    try:
        words, keys = split(description)
    except EndpointError as error:
        # The string may hold a password.
        raise EndpointError(f"endpoint {description.partition(':')[0]}: {error}") from error
    kind = words.pop(0).lower() if words else ""
    defaults = defaults or TLSDefaults()
    if kind in TLS_PREFIXES:
        return _tls_endpoint(reactor, kind, words, keys, defaults)
    try:
        if _auth(keys) not in (None, "none"):
            raise EndpointError(f"auth={keys['auth']} counts only inside TLS, where nobody listens; use ssl:")
        keys.pop("auth", None)
        endpoint, believed = socket_endpoint(reactor, kind, words, keys, defaults.proxy_from)
    except EndpointError as error:
        hidden = _hidden(keys)  # a misspelled ssl: may have one, too
        shown = description if hidden == keys else joined([kind, *words], hidden)
        raise EndpointError(f"endpoint {shown}: {error}") from error
    return endpoint if believed is None else DoorEndpoint(reactor, endpoint, believed=believed)


def _hidden(keys: Mapping[str, str]) -> dict[str, str]:
    """Leave out passwords."""
    return {key: "..." if "password" in key.lower() else value for key, value in keys.items()}


def _tls_endpoint(
    reactor: Any, kind: str, words: Sequence[str], keys: Mapping[str, str], defaults: TLSDefaults
) -> DoorEndpoint:
    from taky_twisted.identity.tls import MutualTLS

    shown = joined([kind, *words], _hidden(keys))
    try:
        named = named_keys(words, keys, _TLS_KEYS)
        _warn_about_idle_keys(shown, named)
        if inner := named.get("inner"):
            listening, believed = inner_endpoint(reactor, inner, named, defaults.proxy_from)
        elif "proxy_from" in named:
            raise EndpointError(NO_PROXY)
        else:
            socket_keys = {key: named[key] for key in OF_THE_SOCKET if key in named}
            listening, believed = twisted_endpoint(reactor, "tcp", [], socket_keys), None
        settings = _settings(shown, named, defaults)
    except EndpointError as error:
        raise EndpointError(f"endpoint {shown}: {error}") from error
    return DoorEndpoint(reactor, listening, believed=believed, tls=MutualTLS(settings), auth=_auth(named))


def _settings(shown: str, named: Mapping[str, str], defaults: TLSDefaults) -> TLSSettings:
    from taky_twisted.identity.revocation import Register
    from taky_twisted.identity.tls import TLSSettings

    client_cert = _client_cert(named, defaults)
    min_tls = named.get("minTLS", "TLSv1_2")
    if min_tls not in _MIN_TLS:
        raise EndpointError(f"minTLS={min_tls}: allowed are {', '.join(_MIN_TLS)}; older versions are not safe")
    if "register" in named and "certDb" in named:
        raise EndpointError("register= and certDb= are the same; write one of them")
    register = named.get("register") or named.get("certDb")
    settings = TLSSettings(
        name=shown,
        authorities=_source(named, "caCerts", defaults.ca_certificates, "[ssl] ca"),
        revocations=_source(named, "crl"),
        register=Register(register) if register else defaults.register,
        client_cert=client_cert,
        min_version=cast('Literal["TLSv1_2", "TLSv1_3"]', _MIN_TLS[min_tls]),
        alpn=defaults.alpn,
        tells_refused=defaults.tells_refused,
        chain=_source(named, "extraCertChain"),
    )
    if settings.revocations is not None and client_cert == "none":
        raise EndpointError("crl= has no effect with clientCert=none; leave one of them out")
    return _with_credentials(settings, named, defaults)


def _auth(keys: Mapping[str, str]) -> Auth | None:
    auth = keys.get("auth")
    if auth is not None and auth not in _AUTH:
        raise EndpointError(f"auth={auth}: allowed are {', '.join(_AUTH)}")
    return cast("Auth | None", auth)


def _client_cert(named: Mapping[str, str], defaults: TLSDefaults) -> ClientCert:
    auth, said = _auth(named), named.get("clientCert")
    if said is not None and said not in _CLIENT_CERT:
        raise EndpointError(f"clientCert={said}: allowed are {', '.join(_CLIENT_CERT)}")
    if auth is None:
        return cast("ClientCert", said or defaults.client_cert)
    fitting = _AUTH[auth]
    if defaults.tells_refused and fitting == ("required",):
        fitting = ("optional", "required")  # who has none is told so by the application
    if said is not None and said not in fitting:
        raise EndpointError(f"auth={auth} and clientCert={said} contradict each other; leave clientCert= out")
    return cast("ClientCert", said or fitting[0])


def _with_credentials(settings: TLSSettings, named: Mapping[str, str], defaults: TLSDefaults) -> TLSSettings:
    if "pkcs12" in named:
        if both := [key for key in ("privateKey", "certKey") if key in named]:
            raise EndpointError(f"pkcs12= and {both[0]}= exclude each other")
        return replace(settings, pkcs12=_source(named, "pkcs12"), password=named.get("keyPassword"))
    key = _source(named, "privateKey", defaults.private_key, "[ssl] key")
    certificate = _source(named, "certKey", defaults.certificate, "[ssl] cert")
    if key is not None or certificate is not None:
        # One file may hold both, as with Twisted.
        return replace(
            settings,
            private_key=key or certificate,
            certificate=certificate or key,
            password=named.get("keyPassword", defaults.key_password),
        )
    return replace(
        settings,
        pkcs12=_source(named, "", defaults.pkcs12, "[ssl] server_p12"),
        password=named.get("keyPassword", defaults.pkcs12_password),
    )


def _source(named: Mapping[str, str], key: str, default: str | None = None, default_key: str = "") -> Source | None:
    from taky_twisted.identity.credentials import Source

    # Absolute, because twistd changes the directory and files are read again later.
    if named.get(key):
        return Source(key, os.path.abspath(named[key]))
    return Source(default_key, os.path.abspath(default)) if default else None


def _warn_about_idle_keys(shown: str, named: Mapping[str, str]) -> None:
    from taky_twisted.logs import Logger

    for key, instead in _WITHOUT_EFFECT.items():
        if key in named:
            Logger().warn("endpoint {name}: {key}= has no effect; {instead}", name=shown, key=key, instead=instead)
