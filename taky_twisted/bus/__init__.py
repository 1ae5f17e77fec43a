"""What joins several processes, the nodes, to one server: their words go through one stream in Redis.

::

    routing.nodes --tell--> RedisBus --> Telling --batch--> XADD taky:{node_id}:bus
                                          |-- Backlog: what waits, within bounds, while Redis is away
                                          `-- Batches: what may have to be sent again
                  <-heard--  Calls  <-- Listening <--batch-- XREAD
                  joined...               `-- Members: who is there, and what is missing

    envelope.py   one entry of the stream: who tells, its number, words as JSON, events as they are
    fields.py     words and records field by field, checked when they are read

What a node tells in one turn of its reactor is one entry, and one entry is on its way at a time: what is told meanwhile
goes with the next. Each entry has its node's next number. One that Redis may have taken is sent again as it is, and so
are those of the second before Redis was gone, since not all may have read them. Those who listen count a number once,
and notice when one is missing. Every node is heard every second, or is gone after five. What is lost in an outage is
made up for by `BusListener.back` and `missed`, where nodes compare what they know.

The stream keeps half a minute. Times are Redis' own, so that no two clocks need agree. Redis is trusted like the disk;
all the same, what comes from it is bounded and checked, so that no node is brought down by another one's bug.
"""
