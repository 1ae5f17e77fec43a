"""The Marti API: what clients ask of a TAK server over HTTP.

::

    socket -> TLS -> MartiSite -> MartiRequest        headers read: who is it, may it, is there room? then the body
      -> routes.build: one Klein                      finds the handler of an area
        -> an area (version, contacts, sync, ...)     translates: parameters -> domain -> a reply
      <- replies, errors                              spell it as clients want it, errors in one place

An area is a class whose methods carry `routes.route`; `site.Marti.of` puts the areas together. Areas decide nothing
that the domain decides: who may see what is a question of groups, and those stand with files, contacts and events.
"""
