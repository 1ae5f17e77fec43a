from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti.file_forms import disposition, in_units, metadata, resource, row
from tests.stores.contract import file


class FormsTests(SynchronousTestCase):
    def test_units(self) -> None:
        """Sizes for people are rounded down, in units of 1024."""
        sizes = {0: "0B", 1023: "1023B", 1024: "1kB", (1 << 20) - 1: "1023kB", 3 << 20: "3MB", (5 << 30) + 1: "5GB"}
        self.assertEqual({size: in_units(size) for size in sizes}, sizes)

    def test_disposition(self) -> None:
        """No name breaks out of its header, and a browser shows all of it."""
        self.assertEqual(disposition("inline", "a.zip"), "inline; filename=\"a.zip\"; filename*=UTF-8''a.zip")
        spelled = disposition("attachment", 'ä"\r\n\\%;b')
        self.assertEqual(spelled, "attachment; filename=\"______;b\"; filename*=UTF-8''%C3%A4%22%0D%0A%5C%25%3Bb")

    def test_absent(self) -> None:
        """What is not known is absent, and who is not known is named as nobody."""
        one = file(7, submitter=None)
        old, new, plain = metadata(one), resource(one), row(one, "ALPHA")
        self.assertEqual((old["Latitude"], old["Longitude"], old["Remarks"]), ("-33.5", "151.25", "it's one"))
        self.assertEqual((new["latitude"], new["size"]), (-33.5, 1 << 33))
        self.assertNotIn("Altitude", old)
        self.assertNotIn("altitude", new)
        self.assertEqual({old["SubmissionUser"], new["submitter"], plain["User"]}, {"anonymous"})
        scalars = [value for value in old.values() if not isinstance(value, list)]
        self.assertEqual({type(value) for value in scalars}, {str})
