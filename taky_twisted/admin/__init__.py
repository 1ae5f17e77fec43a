"""What operators ask a running server, on unix sockets that nobody else may open.

::

    takyctl            -> taky-admin.sock -> AdminProtocol --+
                                                             +-> Admin -> router, doors, register
    taky's own takyctl -> taky-mgmt.sock  -> TakyProtocol ---+

The protocol is in ``doc/reference/admin-api.rst``.
"""
