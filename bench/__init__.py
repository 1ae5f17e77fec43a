"""How fast, how fair and how flat the server is: a load generator and its scenarios.

::

    __main__     options; each scenario, in turns, against this server and another one
      servers      start and stop them, on free loopback ports; keys from `certificates`
      nodes        several that are one server, and the Redis that joins them
      scenarios    what there is, in which sizes
      report       tables, ratios, JSON
      generator    a process of its own for each run, so that a hang has an end
        loads, readers, comings, uploads, flood    what the clients do
          talk         who says how much when
          crowd        clients on one epoll; sockets are `channels`, bytes are `events`
          tally        what was lost, doubled, out of order or late
          proc         CPU and memory of the server

It needs Linux, imports nothing of the server, and only ever connects to 127.0.0.1. ``doc/explanation/speed.rst`` says
how it measures, and why. Beside it stands `codec`, which times the codecs alone.
"""
