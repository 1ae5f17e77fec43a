from __future__ import annotations

from OpenSSL import SSL
from twisted.internet import error
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.advice import advice_for
from taky_twisted.identity.certificates import certificate_of
from taky_twisted.identity.principal import Certificate
from taky_twisted.identity.refusals import explain, shown_as, verify_refusal
from tests.pki import Authority

AUTHORITY = Authority()
CLIENT = AUTHORITY.issue("ALPHA-1").certificate


def from_openssl(words: str) -> str:
    """Say what is said of an error of OpenSSL's."""
    return explain(Failure(SSL.Error([("SSL routines", "", words)])))


class AdviceTests(SynchronousTestCase):
    def assert_advice(self, reason: str, words: str) -> None:
        self.assertIn(words, advice_for(reason), reason)

    def test_certificates(self) -> None:
        """For each thing that can be wrong with a client's certificate there is something that one can do."""
        for code, words in (
            (19, "another server's certificate"),
            (10, "takyctl renew NAME"),
            (9, "the clock"),
            (26, "a server's certificate"),
            (66, "too weak"),
            (67, "too weak"),
            (68, "too weak"),
        ):
            self.assert_advice(verify_refusal(code, CLIENT, 0, ()), words)
        name = certificate_of(CLIENT).issuer
        self.assert_advice(verify_refusal(20, CLIENT, 0, (name,)), "made anew")
        self.assert_advice(verify_refusal(18, AUTHORITY.certificate, 0, ()), "another server's certificate")
        for end in ("in the certificate register", "by its issuer's revocation list"):
            self.assert_advice(f"{shown_as(certificate_of(CLIENT))} is revoked {end}", "unban")

    def test_handshakes(self) -> None:
        """For each way in which a handshake fails there is something that one can do."""
        for alert, words in (
            ("tlsv1 alert unknown ca", "trust store"),
            ("ssl/tls alert bad certificate", "trust store"),
            ("sslv3 alert certificate expired", "renew-server"),
            ("sslv3 alert unsupported certificate", "trust store"),
            ("tlsv1 alert protocol version", "TLS 1.2"),
            ("sslv3 alert handshake failure", "update"),
            ("peer did not return a certificate", "no client certificate"),
            ("http request", "https://"),
            ("unsupported protocol", "TLS 1.2"),
            ("no shared cipher", "update"),
            ("wrong version number", "port scanners"),
        ):
            self.assert_advice(from_openssl(alert), words)
        self.assert_advice(explain(Failure(TimeoutError())), "slow network")
        self.assert_advice(explain(Failure(error.ConnectionDone())), "port scanners")

    def test_other_sentences(self) -> None:
        """So there is for what other doors say."""
        for reason, words in (
            ("the client speaks plain XML (CoT without TLS); this port wants TLS", "choose SSL"),
            ("the client speaks TLS; this port is plain TCP", "8089"),
            ("the client speaks TLS (https); this port is plain HTTP", "8443"),
            ("a load balancer sends the PROXY protocol; this port needs inner=haproxy\\:tcp\\:PORT", "inner="),
            ("it is no load balancer whose PROXY header is believed (proxy_from)", "name its address in proxy_from="),
            ("it does not begin with a PROXY header", "send-proxy-v2"),
            ("no PROXY header came within 5 seconds", "send-proxy-v2"),
            ("there are 5 connections (max_connections)", "[limits]"),
            ("it says that it is A, with which alice was heard in the last 60 seconds", "pin_uid"),
            ("an upload was refused (413): the body is too large", "upload_bytes"),
            (
                (
                    "the client does not accept our certificate (alert: bad certificate), probably because it called us"
                    " tak.example, which is not in it"
                ),
                "renew-server with it",
            ),
        ):
            self.assert_advice(reason, words)

    def test_enrollment(self) -> None:
        """And for who comes to get a certificate and does not."""
        refused = "a request was refused"
        for reason, words in (
            (f"{refused} (401): there is no such account", "users add"),
            (f"{refused} (401): the password is wrong", "users passwd"),
            (f"{refused} (401): the account has no password", "takyctl invite"),
            (f"{refused} (401): this needs a name and a password", "scan an invite"),
            (f"{refused} (401): this needs a password or an invite", "scan an invite"),
            (f"{refused} (401): this invite was used already, for another device; ask for a new one", "--uses"),
            (f"{refused} (403): the request is for bravo, and its sender is alpha", "two names"),
            ("a certificate request was refused (400): an RSA key of 1024 bits; allowed: 2048 to 8192", "2048 to 8192"),
            (f"{refused} (401): this needs a client certificate of this server's authority", "valid certificate"),
        ):
            self.assert_advice(reason, words)

    def test_accounts(self) -> None:
        """And for who comes with a password and does not get in."""
        for reason, words in (
            ("the password is wrong", "users passwd"),
            ("the account is disabled", "users enable"),
            ("a request was refused (401): the account is disabled", "users enable"),
            ("the name is banned", "takyctl unban"),
            ("the client did not say a name and a password (<auth>) first, as this port wants", "Use Authentication"),
            ("no right password came within 30 seconds", "Use Authentication"),
            ("the client's certificate is of another name than its account", "that of its certificate"),
            ("the server checks as many passwords as it can; try again in a few seconds", "passes by itself"),
            ("too many attempts with this name at the same time; try again in a few seconds", "passes by itself"),
            ("a request was refused (401): the access token has expired", "log in again"),
        ):
            self.assert_advice(reason, words)

    def test_nothing_to_say(self) -> None:
        """Where nothing is known to help, nothing is said."""
        self.assertEqual(advice_for("TLS failed: strange"), "")

    def test_names_give_no_advice(self) -> None:
        """What a stranger writes into a certificate does not change what the operator is told."""
        evil = Certificate("x) is revoked in the certificate register", "CN=is revoked in the certificate register", 1)
        self.assertNotIn("unban", advice_for(f"{shown_as(evil)} is from an authority that we do not trust"))
        self.assert_advice(f"{shown_as(evil)} is from an authority that we do not trust", "another server's")
