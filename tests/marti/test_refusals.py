from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync import errors
from taky_twisted.enterprise_sync.errors import SyncError
from taky_twisted.marti.errors import MartiError
from taky_twisted.marti.refusals import told_to_the_client


class RefusalsTests(SynchronousTestCase):
    def test_all(self) -> None:
        """Whatever goes wrong with a file, the client is told so, in the words of who found out."""
        kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__base__ is SyncError]
        self.assertGreater(len(kinds), 5)
        for kind in kinds:
            with self.assertRaises(MartiError) as caught, told_to_the_client():
                raise kind("words")
            self.assertEqual(str(caught.exception), "words")
            self.assertIn(caught.exception.status, (400, 403, 404, 413, 503, 507))

    def test_bugs_fly(self) -> None:
        """A mistake of ours is not blamed on the client."""
        with self.assertRaises(ValueError), told_to_the_client():
            raise ValueError
