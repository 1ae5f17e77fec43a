"""What can be wrong with what is said on the bus."""

from __future__ import annotations


class EnvelopeError(Exception):
    """A batch, or the rest of one, cannot be read, or a word cannot be written; the text says why."""

    advice = "It is passed over, and the nodes compare what they know. This is said once."
    """What comes of it, for the operator."""


class NewerBatch(EnvelopeError):
    """A batch was written by a version of this server that is too far ahead."""

    advice = "Update this node: until then it works without those that are ahead of it."


class TooManyNodes(EnvelopeError):
    """A node is not listened to because there are so many already."""

    advice = "Run fewer nodes, or give another server another node_id."
