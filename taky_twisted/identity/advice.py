"""What an operator can do about a refusal.

The sentences are those of `taky_twisted.identity.refusals` and of the doors. Those about a certificate hold names that
a stranger chose, so only their ends are looked at.
"""

from __future__ import annotations

import re

_PACKAGE = "make a connection package of this server (takyctl build_client NAME) and import it"

_RULES = [
    (re.compile(pattern), text)
    for pattern, text in (
        (
            r"is from an authority that we do not trust$|is signed by itself, not by an authority that we trust$",
            f"the device shows another server's certificate: {_PACKAGE}; delete the old connection there",
        ),
        (
            r"is from another authority than ours, one with the same name but another key$",
            (
                f"this site's authority was made anew since: {_PACKAGE}, or name the old authority's certificate in"
                " [ssl] ca beside the new one"
            ),
        ),
        (r"expired on [0-9: -]+ UTC$", "renew it (takyctl renew NAME), and import the new package on the device"),
        (
            r"is not valid before [0-9: -]+ UTC; is a clock wrong\?$",
            "set the clock of this machine (date -u; timedatectl), or of the one on which the certificate was made",
        ),
        (
            r"is revoked in the certificate register$|is revoked by its issuer's revocation list$",
            "nothing, if it is meant to be banned; else takyctl unban NAME, then build_client NAME for a new package",
        ),
        (
            r"is not made for clients \(its extended key usage lacks clientAuth\)$",
            "the device shows a server's certificate; build_client makes one for a client",
        ),
        (
            (
                r"has a key that is too short$|was signed with a key that is too short$"
                r"|is signed with a digest that is too weak \(SHA-1 or MD5\)$"
            ),
            f"its certificate is too weak to be believed: {_PACKAGE}",
        ),
        (
            r"^the client showed no certificate",
            (
                "the device has no client certificate for this server, or could not open it (a wrong password of the"
                " .p12): import the connection package again"
            ),
        ),
        (
            r"^the client does not accept our certificate.*, which is not in it$",
            (
                "the server's certificate needs that address among its names: takyctl renew-server with it as --host or"
                " --public-ip; nothing changes on the devices"
            ),
        ),
        (
            (
                r"^the client does not trust our certificate|; perhaps it does not trust our certificate$"
                r"|^the client does not accept our certificate"
            ),
            (
                "the device's trust store lacks this site's authority, or has one of the same name: import the"
                " connection package again"
            ),
        ),
        (
            r"^the client says that our certificate has expired",
            "takyctl renew-server, if it has (takyctl certs); else the clock of the device is wrong",
        ),
        (
            r"^the client speaks only TLS versions that are too old|^the client does not speak the TLS versions",
            "update the app or the device's system: TLS 1.2 is the oldest that is safe",
        ),
        (
            r"cipher \(or signature algorithm\) in common$|^the client found no TLS settings in common",
            "update the app or the device's system; a certificate with an RSA key suits the oldest clients",
        ),
        (r"^the client speaks plain HTTP; this port wants TLS", "write https:// in place of http://"),
        (
            r"^the client speaks plain XML|^the client speaks the plain TAK protocol",
            (
                "choose SSL as the protocol of this connection on the device, and give it a certificate; or use the"
                " port for plain TCP, if there is one"
            ),
        ),
        (
            r"^the client speaks TLS.*; this port is plain",
            "use the port for TLS (8089 for CoT, 8443 for HTTPS), or choose TCP (or http://) on the device",
        ),
        (r"^a load balancer sends the PROXY protocol", "see doc/reference/endpoints.rst, inner="),
        (
            r"^it is no load balancer whose PROXY header is believed",
            (
                "if it is a load balancer of this site, name its address in proxy_from= of that door, or in proxy_from"
                " in [taky]; clients have to connect to the balancer"
            ),
        ),
        (
            r"^it does not begin with a PROXY header|^no PROXY header came within",
            (
                "let the load balancer send the header (HAProxy: send-proxy-v2, nginx: proxy_protocol on); clients have"
                " to connect to the balancer"
            ),
        ),
        (
            r"^the client speaks something that is not TLS|^the client closed the connection without sending anything",
            "nothing, if nobody is missing: port scanners and health checks do this",
        ),
        (
            r"^the client did not finish the TLS handshake in time",
            "a very slow network, or somebody who only tries the port; [limits] handshake_seconds gives more time",
        ),
        (r"the account is disabled$", "nothing, if it is meant to be; else takyctl users enable NAME"),
        (r"the name is banned$", "nothing, if it is meant to be; else takyctl unban NAME"),
        (
            r"did not say a name and a password \(<auth>\) first, as this port wants$|^no right password came within",
            (
                "give this connection a name and a password on the device (ATAK: Use Authentication), or a certificate,"
                " if the port takes one"
            ),
        ),
        (
            r"certificate is of another name than its account$",
            "on this port the name on the device has to be that of its certificate",
        ),
        (r"as many passwords as it can; try again|too many attempts with this name", "nothing; it passes by itself"),
        (r"the access token (has expired|is not one of ours)$|the account was changed since$", "log in again"),
        (r"\(max_\w+\)$", "raise that limit in section [limits] if it is too small for this site"),
        (
            r"was heard in the last \d+ seconds$",
            (
                "two devices have one uid (a copied installation?), or somebody pretends; a device with a"
                " new certificate gets in after a minute; [cot_server] pin_uid = off allows it"
            ),
        ),
        (
            r"^an upload was refused \(413\)",
            "[limits] upload_bytes is the largest file that is taken",
        ),
        (r"^an upload was refused \(429\)", "[limits] uploads_per_principal is how many may run at once"),
        (
            r"(^|: )there is no such account$",
            (
                "make an account (takyctl users add NAME), or invite somebody (takyctl invite NAME); the device has to"
                " say just that name"
            ),
        ),
        (
            r"(^|: )the password is wrong$",
            "an invite that has ended, or a typing error; takyctl users passwd NAME sets another password",
        ),
        (
            r"(^|: )the account has no password$",
            (
                "an invite that has ended, or a typing error; takyctl invite NAME makes a new one, takyctl users passwd"
                " NAME sets a password"
            ),
        ),
        (
            r"^a request was refused \(401\): this needs a (name and a password|password or an invite)$",
            "enter the name and the password on the device, or scan an invite (takyctl invite NAME)",
        ),
        (
            r"^a request was refused \(401\): this invite was used already",
            "takyctl invite NAME makes a new one; --uses lets it be for several devices",
        ),
        (
            r"^a request was refused \(403\): the request is for .*, and its sender is ",
            "the device uses two names: enter the one of the account, or of the invite, in both places",
        ),
        (
            r"^a certificate request was refused \(400\)",
            "update the app: RSA keys of 2048 to 8192 bits are signed, and P-256 and P-384",
        ),
        (r"^an upload was refused \(401\)|^a request was refused \(401\)", "the device needs a valid certificate"),
        (r"^an upload was refused \(507\)", "make room on the disk"),
    )
]


def advice_for(reason: str) -> str:
    """Say what to do about a refusal; empty if there is nothing to say."""
    return next((text for pattern, text in _RULES if pattern.search(reason)), "")
