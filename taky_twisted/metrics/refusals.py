"""Count refusals by a few reasons, made of the sentences that operators read.

Most of a sentence about a certificate is what a stranger has chosen, so that only ends and beginnings are looked at.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import Literal

from taky_twisted.identity.failures import FailedAttempt, Failures

What = Literal["connection", "tls", "login"]

_PATTERNS: dict[What, dict[str, str]] = {
    "login": {
        "too_much": r"\(max_unidentified_bytes\)$",
        "wrong_password": r"(^|: )the password is wrong$",
        "no_account": r"(^|: )there is no such account$",
        "no_password": r"(^|: )the account has no password$",
        "disabled": r"(^|: )the account is disabled(, or the name banned)?$",
        "banned": r"(^|: )the name is banned$",
        "changed": r"the password was changed at that moment$|the account was changed since$",
        "wrong_name": r"certificate is of another name than its account$",
        "busy": r"as many passwords as it can; try again|too many attempts with this name",
        "too_slow": r"^no right password came within",
        "none_said": r"as this port wants$|\(401\): this needs a (name and a password|password or an invite)$",
        "token": r"the access token (has expired|is not one of ours)$",
        "invite": r"^a request was refused \(401\): this invite",
    },
    "connection": {
        "max_connections": r"\(max_connections\)$",
        "max_per_address": r"\(max_per_address\)$",
        "max_unidentified": r"\(max_unidentified\)$",
        "max_handshakes": r"\(max_handshakes\)$",
        "max_http_connections": r"\(max_http_connections\)$",
        "max_http_per_address": r"\(max_http_per_address\)$",
        "tls_on_plain_port": r"^the client speaks TLS( \(https\))?; this port is plain",
        "proxy": r"\(proxy_from\)$|PROXY header yet$|^(its|no) PROXY header |^it does not begin with a PROXY header$"
        r"|^it was closed in the middle of its PROXY header$",
    },
    "tls": {
        "no_certificate": r"^the client showed no certificate",
        "unknown_authority": r"from an authority that we do not trust$|, not by an authority that we trust$"
        r"|is from another authority than ours, one with the same name but another key$",
        "expired": r"expired on [0-9: -]+ UTC$",
        "not_yet_valid": r"is not valid before [0-9: -]+ UTC; is a clock wrong\?$",
        "revoked": r"is revoked( in the certificate register| by its issuer's revocation list)?$"
        r"|^an authority above the client's certificate is revoked",
        "unsuitable": r"\(its extended key usage lacks clientAuth\)$|that is not an authority's$"
        r"|has a key that is too short$|was signed with a key that is too short$"
        r"|is signed with a digest that is too weak \(SHA-1 or MD5\)$|does not pass OpenSSL \(verify error \d+\)$"
        r"|^the client's certificate (cannot be read|could not be checked)",
        "distrusts_us": r"^the client does not (trust|accept) our certificate"
        r"|; perhaps it does not trust our certificate$|^the client says that our certificate has expired",
        "not_tls": r"^the client speaks (plain|the plain|something that)|^a load balancer sends",
        "incompatible": r"^the client speaks only TLS versions|^the client does not speak the TLS versions"
        r"|cipher \(or signature algorithm\) in common$|^the client found no TLS settings in common",
        "too_slow": r"^the client did not finish the TLS handshake in time$",
        "broken_off": r"^the client closed the connection|^the client gave up"
        r"|^this server closed the connection before",
        "other": r"^TLS failed: |^the client ended the TLS handshake|^the client's certificate is not accepted$",
    },
}
_RULES = [
    (what, reason, re.compile(pattern)) for what, reasons in _PATTERNS.items() for reason, pattern in reasons.items()
]

REASONS: dict[What, tuple[str, ...]] = {what: tuple(reasons) for what, reasons in _PATTERNS.items()}
"""All that are told apart."""


class Refusals:
    """Counts, for as long as the server runs."""

    def __init__(self, failures: Failures) -> None:
        self.counts: Counter[tuple[What, str]] = Counter()
        failures.watch(self._told)

    def _told(self, attempt: FailedAttempt) -> None:
        what = classify(attempt.reason)
        if what is not None:
            self.counts[what] += 1


@lru_cache(maxsize=256)
def classify(sentence: str) -> tuple[What, str] | None:
    """Say what was refused and why; None for a single request or event, which is counted elsewhere."""
    return next(((what, reason) for what, reason, pattern in _RULES if pattern.search(sentence)), None)
