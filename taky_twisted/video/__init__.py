"""Video feeds that clients share: aliases of cameras and streams, one table behind both of Marti's APIs.

::

    /Marti/vcm (XML)        -> feed_xml.read_feeds         -> Feed --------.
    taky's video_feed/*.xml -> takeover                    -> Feed ---------> videos.Videos <-> store
    /Marti/api/video (JSON) -> connections.read_connection -> Connection --'

A connection has one or more feeds; the older API knows feeds alone. A feed's place is a URL, which `urls` takes apart
for the older API.
"""
