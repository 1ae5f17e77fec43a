"""What machines that watch the server ask for: numbers for Prometheus, and whether it is well.

::

    Prometheus, a supervisor, a load balancer
      -> site: GET or HEAD, /metrics or /health, nothing else; bounded, and nothing can be changed here
        -> readings: looks at the server's own counters (`Watched`), a little in each reactor turn
             `-> exposition: spells them, in a thread, as `catalog` describes them
        -> health: which faults there are, since when, and what to do
             `-> pulse: how late the reactor is, and whether somebody has set the clock

    Failures -> refusals: the few kinds of refusals that are counted

The counters themselves are plain numbers where things happen (`taky_twisted.routing.tally` on the way of events):
nothing here is on that way. All of it is loaded only if a door for metrics is configured.
"""
