"""How events are spelled on a stream: framing, codecs, control messages; pure and without Twisted.

::

    bytes -> TAKConnection.receive -> XMLFraming.next_frame -> cot.xmlcodec.decode -> Event
                                   -> replies (pong), which the caller writes
    Batch -> TAKConnection.send    -> bytes
"""
