from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.failures import Failures
from taky_twisted.identity.proxied import MAX_WAITING, NOT_BELIEVED
from taky_twisted.metrics.refusals import REASONS, Refusals, classify

_CERTIFICATE = "the client's certificate (FOX1, serial A1, issued by CN=CA)"
SENTENCES = {
    "login": {
        "too_much": ["it said too much before its password was checked (max_unidentified_bytes)"],
        "wrong_password": ["the password is wrong", "a request was refused (401): the password is wrong"],
        "no_account": ["there is no such account"],
        "no_password": ["a request was refused (401): the account has no password"],
        "disabled": ["the account is disabled"],
        "banned": ["the name is banned"],
        "changed": [
            "the password was changed at that moment",
            "a request was refused (401): the account was changed since",
        ],
        "wrong_name": ["the client's certificate is of another name than its account"],
        "busy": ["too many attempts with this name at the same time; try again in a few seconds"],
        "too_slow": ["no right password came within 30 seconds"],
        "none_said": [
            "the client did not say a name and a password (<auth>) first, as this port wants",
            "a request was refused (401): this needs a name and a password",
            "a request was refused (401): this needs a password or an invite",
        ],
        "token": ["a request was refused (401): the access token has expired"],
        "invite": ["a request was refused (401): this invite was used already"],
    },
    "connection": {
        "max_connections": ["there are 5 connections (max_connections)"],
        "max_per_address": ["there are 5 connections from there (max_per_address)"],
        "max_unidentified": ["5 connections have not said who they are (max_unidentified)"],
        "max_handshakes": ["5 TLS handshakes are pending (max_handshakes)"],
        "max_http_connections": ["there are 5 HTTP connections (max_http_connections)"],
        "max_http_per_address": ["there are 5 HTTP connections from there (max_http_per_address)"],
        "tls_on_plain_port": [
            "the client speaks TLS; this port is plain TCP",
            "the client speaks TLS (https); this port is plain HTTP",
        ],
        "proxy": [
            NOT_BELIEVED,
            f"{MAX_WAITING} connections have sent no PROXY header yet",
            "no PROXY header came within 5 seconds",
            "its PROXY header is not as version 1 has it",
            "it does not begin with a PROXY header",
            "it was closed in the middle of its PROXY header",
        ],
    },
    "tls": {
        "no_certificate": ["the client showed no certificate"],
        "unknown_authority": [
            f"{_CERTIFICATE} is from an authority that we do not trust",
            f"{_CERTIFICATE} is signed by itself, not by an authority that we trust",
            f"{_CERTIFICATE} is from another authority than ours, one with the same name but another key",
        ],
        "expired": [f"{_CERTIFICATE} expired on 2026-01-01 10:00 UTC"],
        "not_yet_valid": [f"{_CERTIFICATE} is not valid before 2026-01-01 10:00 UTC; is a clock wrong?"],
        "revoked": [
            f"{_CERTIFICATE} is revoked",
            f"{_CERTIFICATE} is revoked in the certificate register",
            f"{_CERTIFICATE} is revoked by its issuer's revocation list",
            "an authority above the client's certificate is revoked (CA, serial 1)",
        ],
        "unsuitable": [
            f"{_CERTIFICATE} is not made for clients (its extended key usage lacks clientAuth)",
            f"{_CERTIFICATE} was signed by a certificate that is not an authority's",
            f"{_CERTIFICATE} has a key that is too short",
            f"{_CERTIFICATE} was signed with a key that is too short",
            f"{_CERTIFICATE} is signed with a digest that is too weak (SHA-1 or MD5)",
            f"{_CERTIFICATE} does not pass OpenSSL (verify error 26)",
            "the client's certificate cannot be read: x",
            "the client's certificate could not be checked",
        ],
        "distrusts_us": [
            "the client does not trust our certificate (alert: unknown ca); its truststore must have our authority",
            "the client does not accept our certificate (it left), probably because it called us x, which is not in it",
            "the client closed the connection in the middle of it; perhaps it does not trust our certificate",
            "the client says that our certificate has expired (alert: certificate expired); is a clock wrong?",
        ],
        "not_tls": [
            "the client speaks plain HTTP; this port wants TLS (https)",
            "the client speaks the plain TAK protocol (protobuf without TLS); this port wants TLS",
            "the client speaks something that is not TLS",
            r"a load balancer sends the PROXY protocol; this port needs inner=haproxy\:tcp\:PORT for that",
        ],
        "incompatible": [
            "the client speaks only TLS versions that are too old for this port",
            "the client and this port have no cipher (or signature algorithm) in common",
            "the client does not speak the TLS versions of this port (alert: protocol version)",
            "the client found no TLS settings in common with this port (alert: handshake failure)",
        ],
        "too_slow": ["the client did not finish the TLS handshake in time"],
        "broken_off": [
            "the client closed the connection without sending anything",
            "the client gave up (alert: user canceled)",
            "this server closed the connection before the TLS handshake was complete",
        ],
        "other": [
            "TLS failed: x",
            "the client ended the TLS handshake (alert: x)",
            "the client's certificate is not accepted",
        ],
    },
}


class RefusalsTests(SynchronousTestCase):
    def test_every_reason(self) -> None:
        """Each sentence that operators read counts under its reason, and there is one for every reason."""
        self.assertEqual({what: tuple(reasons) for what, reasons in SENTENCES.items()}, REASONS)
        for what, reasons in SENTENCES.items():
            for reason, sentences in reasons.items():
                for sentence in sentences:
                    self.assertEqual(classify(sentence), (what, reason), sentence)

    def test_names_of_strangers(self) -> None:
        """What somebody calls himself in a certificate does not change what is counted."""
        name = "the client's certificate (the password is wrong, serial 1, issued by (max_connections)) is revoked"
        self.assertEqual(classify(name), ("tls", "revoked"))

    def test_counted_elsewhere(self) -> None:
        """Single requests and events that are refused are not among these."""
        for sentence in (
            "an upload was refused (413): it is too large",
            "it says that it is A, with which FOX1 was heard in the last 60 seconds",
            "",
        ):
            self.assertIsNone(classify(sentence))

    def test_counts(self) -> None:
        """Every time counts, also of what is told once only."""
        failures = Failures(Clock())
        refusals = Refusals(failures)
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
            failures.tell(address, "ssl:8089", "the client showed no certificate")
        failures.tell("192.0.2.1", "ssl:8089", "whatever")
        self.assertEqual(dict(refusals.counts), {("tls", "no_certificate"): 3})
