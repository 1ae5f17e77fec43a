"""What was said: events of the last days, and what is made of them.

::

    routing.Router --heard--> History --batch, 4 a second--> stores.SqliteHistory, in its own thread
    marti <--documents, kml-- History.read <--Past-- stores.SqliteHistory, in another thread of its own

History shows nothing to anybody who could not have heard it: each event is kept with the groups that it was said to,
and one that was directed to somebody also with the names of its sender and its recipients.
"""
