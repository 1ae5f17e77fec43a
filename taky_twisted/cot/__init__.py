"""What is said: Cursor-on-Target events, pure and without Twisted.

::

    bytes of one document -> xmlcodec.decode -> Event -> (router) -> Event.xml, the bytes that are delivered
                                                          compose: pong, departure, repeats, receipts

`Event` is what the rest of the server talks about; it keeps the delivered form as bytes and never changes.
"""
