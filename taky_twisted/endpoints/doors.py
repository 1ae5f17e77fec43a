"""Make the endpoint that a string describes."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from twisted.internet.interfaces import IStreamServerEndpoint, IStreamServerEndpointStringParser
from twisted.plugin import IPlugin
from zope.interface import implementer

from taky_twisted.endpoints.strings import COLON_HINT, check_number, interface_address, joined, named_keys, split
from taky_twisted.identity.errors import EndpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twisted.internet.defer import Deferred
    from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorCore

    from taky_twisted.identity.credentials import Source
    from taky_twisted.identity.proofs import Auth
    from taky_twisted.identity.revocation import Register
    from taky_twisted.identity.tls import ClientCert, MutualTLS, TLSSettings

TLS_PREFIXES = ("ssl", "taktls")
BACKLOG = 1024
"""Connections that may wait to be accepted (Twisted: 50), enough for all clients to come back at once after a restart.

The system has a limit of its own (``net.core.somaxconn``)."""

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
    "inner",
    "dhParameters",
    "sslmethod",
)
_WITHOUT_EFFECT = {
    "dhParameters": "keys are agreed on with ECDHE",
    "sslmethod": "minTLS= says which versions are spoken",
}
_OF_THE_SOCKET = ("port", "interface", "backlog")
_KEYS = {
    "tcp": ("port", "interface", "backlog"),
    "tcp6": ("port", "backlog", "interface"),
    "unix": ("address", "mode", "backlog", "lockfile"),
    "systemd": ("domain", "index", "name"),
}
_INNER = ("tcp", "tcp6", "systemd")
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
    """What an ``ssl:`` string does not say itself, from section [ssl] of ``taky.conf``."""

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


@implementer(IStreamServerEndpoint)
class DoorEndpoint:
    """A listening socket, whom it admits, the PROXY header of a load balancer if there is one, and TLS."""

    def __init__(
        self,
        reactor: Any,
        inner: IStreamServerEndpoint,
        *,
        proxied: bool = False,
        tls: MutualTLS | None = None,
        auth: Auth | None = None,
    ) -> None:
        self._reactor = reactor
        self._inner = inner
        self._proxied = proxied
        self.tls = tls
        """The door's TLS, to be reloaded; None for a door without."""
        self.auth = auth
        """How peers prove who they are, if the string says so."""

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen; a factory with ``admits(address) -> bool`` is asked before anything is done for a connection."""
        from twisted.protocols.haproxy import proxyEndpoint

        from taky_twisted.identity.transport import TLSFactory

        endpoint: IStreamServerEndpoint = _AdmittingEndpoint(self._inner, protocolFactory)
        if self._proxied:
            endpoint = proxyEndpoint(endpoint)
        if self.tls is not None:
            return endpoint.listen(TLSFactory(self.tls, protocolFactory, self._reactor))
        return endpoint.listen(protocolFactory)


@implementer(IStreamServerEndpoint)
class _AdmittingEndpoint:
    """Stand directly at the socket and ask the application about each connection."""

    def __init__(self, inner: IStreamServerEndpoint, application: IProtocolFactory) -> None:
        self._inner = inner
        self._application = application

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        from taky_twisted.identity.transport import AdmissionFactory

        return self._inner.listen(AdmissionFactory(protocolFactory, self._application))


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
    if kind in TLS_PREFIXES:
        return _tls_endpoint(reactor, kind, words, keys, defaults or TLSDefaults())
    try:
        if _auth(keys) not in (None, "none"):
            raise EndpointError(f"auth={keys['auth']} counts only inside TLS, where nobody listens; use ssl:")
        keys.pop("auth", None)
        endpoint, proxied = _socket_endpoint(reactor, kind, words, keys)
    except EndpointError as error:
        raise EndpointError(f"endpoint {description}: {error}") from error
    return DoorEndpoint(reactor, endpoint, proxied=True) if proxied else endpoint


def _tls_endpoint(
    reactor: Any, kind: str, words: Sequence[str], keys: Mapping[str, str], defaults: TLSDefaults
) -> DoorEndpoint:
    from taky_twisted.identity.tls import MutualTLS

    hidden = {key: "..." if "password" in key.lower() else value for key, value in keys.items()}
    shown = joined([kind, *words], hidden)
    try:
        named = named_keys(words, keys, _TLS_KEYS)
        _warn_about_idle_keys(shown, named)
        if inner := named.get("inner"):
            for key in _OF_THE_SOCKET:
                if key in named:
                    raise EndpointError(f"{key}= and inner= exclude each other; write it inside of inner=")
            listening, proxied = _inner_endpoint(reactor, inner)
        else:
            socket_keys = {key: named[key] for key in _OF_THE_SOCKET if key in named}
            listening, proxied = _twisted_endpoint(reactor, "tcp", [], socket_keys), False
        settings = _settings(shown, named, defaults)
    except EndpointError as error:
        raise EndpointError(f"endpoint {shown}: {error}") from error
    return DoorEndpoint(reactor, listening, proxied=proxied, tls=MutualTLS(settings), auth=_auth(named))


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


def _inner_endpoint(reactor: Any, description: str) -> tuple[IStreamServerEndpoint, bool]:
    words, keys = split(description)
    kinds = [word.lower() for word in words]
    if (kinds[1:] if kinds[0] == "haproxy" else kinds)[:1] not in [[kind] for kind in _INNER]:
        raise EndpointError(
            f"inner={description}: allowed are {', '.join(_INNER)}, each also after 'haproxy:'; "
            r"every ':' in it is written '\:'"
        )
    try:
        return _socket_endpoint(reactor, kinds[0], words[1:], keys)
    except EndpointError as error:
        raise EndpointError(f"inner={description}: {error}") from error


def _socket_endpoint(
    reactor: Any, kind: str, words: list[str], keys: dict[str, str]
) -> tuple[IStreamServerEndpoint, bool]:
    """Make an endpoint that is not our TLS, and say whether a load balancer's PROXY header comes first on it."""
    if kind != "haproxy":
        return _twisted_endpoint(reactor, kind, words, keys), False
    behind = words[0].lower() if words else ""
    if behind in (*TLS_PREFIXES, "tls"):
        raise EndpointError(r"the PROXY header comes before TLS: write ssl:inner=haproxy\:tcp\:PORT and the other keys")
    return _twisted_endpoint(reactor, behind, words[1:], keys), True


def _twisted_endpoint(reactor: Any, kind: str, words: Sequence[str], keys: Mapping[str, str]) -> IStreamServerEndpoint:
    from twisted.internet.endpoints import serverFromString

    if kind in _KEYS:
        known = _KEYS[kind]
        placed = dict(zip(known, words, strict=False))
        if len(words) > len(known) or placed.keys() & keys.keys():
            stray = next(iter(placed.keys() & keys.keys()), None)
            problem = f"{stray} is given twice" if stray else f"{words[len(known)]!r} is one word too many"
            raise EndpointError(f"{problem}; {COLON_HINT}")
        words, keys = [], _checked_socket(kind, named_keys([], {**placed, **keys}, known))
    try:
        return cast("IStreamServerEndpoint", serverFromString(reactor, joined([kind, *words], keys)))
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise EndpointError(f"Twisted does not take it: {error}") from error


def _checked_socket(kind: str, named: Mapping[str, str]) -> dict[str, str]:
    checked = dict(named)
    if kind in ("tcp", "tcp6"):
        if not checked.get("port"):
            raise EndpointError("no port; write it as the first word or with port=")
        check_number("port", checked["port"], 65535)
        checked.setdefault("backlog", str(BACKLOG))
    if "backlog" in checked:
        check_number("backlog", checked["backlog"], 1 << 30)
    if checked.get("interface"):
        checked["interface"] = interface_address(checked["interface"])
    return checked


def _warn_about_idle_keys(shown: str, named: Mapping[str, str]) -> None:
    from taky_twisted.logs import Logger

    for key, instead in _WITHOUT_EFFECT.items():
        if key in named:
            Logger().warn("endpoint {name}: {key}= has no effect; {instead}", name=shown, key=key, instead=instead)
