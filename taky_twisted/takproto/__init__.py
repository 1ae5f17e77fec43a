"""How events are spelled on a stream: framing, codecs, control messages; pure and without Twisted.

::

    bytes -> TAKConnection.receive -> XMLFraming.next_frame -> cot.xmlcodec.decode -> Event
                                   -> Reply (pong, negotiation), which the caller writes at once
    Batch -> TAKConnection.send    -> bytes
"""
