"""How one gets an identity: the site's authority, the certificate register, and what phones are given.

::

    authority --certificate--> register       (first entered, then given away)
        |                         |
        |                         +--> identity.revocation, in the running server: whom to refuse
        +--key, certificate--> keystores --PKCS#12--> packages --zip--> ATAK, WinTAK, iTAK
    signing_requests --public key--> authority
    service --> issuing (the two above, for clients that ask themselves) and invites (who may); profiles: what they get
    qr: what phones scan

Nothing here knows HTTP or a terminal. Making keys and PKCS#12 files takes up to seconds, and the register
waits for its lock and the disk: call these in a thread where nothing may wait.
"""
