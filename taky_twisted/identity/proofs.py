"""How peers prove who they are at a door."""

from __future__ import annotations

from typing import Literal

Auth = Literal["none", "cert", "password", "cert+password", "open"]
"""What a door takes as proof.

- ``none``: nothing is asked for.
- ``cert``: a certificate.
- ``password``: a certificate or a password.
- ``cert+password``: both, of one name.
- ``open``: nothing, as long as nobody has a password; then as ``password``.
"""
