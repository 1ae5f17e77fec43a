from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.takproto.batch import Batch
from tests.samples import event, marker, sa


class BatchTests(SynchronousTestCase):
    """Events that many hear."""

    def test_one_event_is_not_copied(self) -> None:
        """One event is sent as the very bytes that it holds, however many hear it."""
        one = event(marker())
        self.assertIs(Batch([one]).xml, one.xml)

    def test_order(self) -> None:
        """Several arrive in the order in which they were said, with nothing between them."""
        events = [event(sa("A", "A")), event(marker()), event(sa("B", "B"))]
        self.assertEqual(Batch(events).xml, events[0].xml + events[1].xml + events[2].xml)

    def test_joined_once(self) -> None:
        """All who hear the same get the same bytes object: nothing is joined again for the second."""
        batch = Batch([event(sa("A", "A")), event(marker())])
        self.assertIs(batch.xml, batch.xml)

    def test_length(self) -> None:
        """A batch is as long as its bytes on the wire, for those who must bound a queue."""
        one, two = event(sa("A", "A")), event(marker())
        self.assertEqual(len(Batch([one, two])), len(one.xml) + len(two.xml))

    def test_directed(self) -> None:
        """What was meant for somebody in particular says so; nothing else does."""
        self.assertFalse(Batch([event(marker())]).directed)
        self.assertTrue(Batch([event(marker())], directed=True).directed)

    def test_no_other_names(self) -> None:
        """Asking a batch for something that it has not is the usual error."""
        with self.assertRaises(AttributeError):
            Batch([event(marker())]).nothing  # noqa: B018
