"""Who hears what.

::

    Subscription.publish(event)           adds who said it, answers what is meant for the server
      -> Router.route(event, source)      contacts, deletes, emergencies, retained items, destinations
        -> Audiences.broadcast            one pending list per class of receivers, flushed once per reactor turn
        -> Audiences.direct               to the subscriptions that were named
          -> Sink.deliver(batch)          a client's stream, the monitor port, multicast, the recorder

The whole way is synchronous. What must wait (a slow reader, a disk) is a sink or a store with its own bounded queue.
"""
