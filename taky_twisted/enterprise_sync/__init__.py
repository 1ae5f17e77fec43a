"""Files that clients share: content by its SHA-256 on disk, what is known of it in the site's store.

::

    marti --pieces of a body--> Upload --in batches, in a thread--> Body --the file's bytes--> Incoming (writes aside)
    marti --words-------------> Files: what is stored, who sees it, who may change it --> the site's EventStore
                                  +--> Blobs: puts what is complete in its place, opens it for downloads

`EnterpriseSync` in `service` puts the parts together; `takeover` brings in what taky has.
"""
