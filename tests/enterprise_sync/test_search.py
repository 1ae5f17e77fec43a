from __future__ import annotations

from dataclasses import replace
from math import isclose

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enterprise_sync.files import Caller
from taky_twisted.enterprise_sync.search import Search, distance
from tests.fakes import principal
from tests.stores.contract import file

FILE = replace(file(7), tool="public", altitude=100.0)
ANYBODY = Caller()
ALPHA = Caller(principal("alpha"))


class SearchTests(SynchronousTestCase):
    def found(self, **wanted: object) -> bool:
        return Search(**wanted).fits(FILE, ANYBODY)  # type: ignore[arg-type]  # as the cases say

    def test_each(self) -> None:
        """Each parameter finds what fits, and only that."""
        for wanted, other in (
            ({"keywords": ("none", "PACKAGE")}, {"keywords": ("none",)}),
            ({"tool": "public"}, {"tool": "publi"}),
            ({"hash": FILE.hash}, {"hash": "0" * 64}),
            ({"name": "OTOS"}, {"name": "F.tos"}),
            ({"uid": "ABAB"}, {"uid": "x"}),
            ({"mime_type": "zip"}, {"mime_type": "png"}),
            ({"submitter": "ALPHA"}, {"submitter": "bravo"}),
            ({"remarks": "ONE"}, {"remarks": "two"}),
            ({"permission": "P"}, {"permission": "q"}),
            ({"number": 7}, {"number": 8}),
            ({"start": FILE.submitted}, {"start": FILE.submitted + 1}),
            ({"stop": FILE.submitted}, {"stop": FILE.submitted - 1}),
            ({"low": 100.0}, {"low": 100.1}),
            ({"high": 100.0}, {"high": 99.9}),
            ({"box": (151.0, -34.0, 152.0, -33.0)}, {"box": (151.0, -33.4, 152.0, -33.0)}),
            ({"box": (151.0, -34.0, -170.0, 0.0)}, {"box": (152.0, -34.0, 151.0, 0.0)}),
            ({"circle": (151.25, -33.6, 12_000.0)}, {"circle": (151.25, -33.6, 11_000.0)}),
        ):
            self.assertTrue(self.found(**wanted), wanted)
            self.assertFalse(self.found(**other), other)
        self.assertTrue(self.found())

    def test_nowhere(self) -> None:
        """What has no place is in no area, and at no altitude."""
        nowhere = replace(FILE, latitude=None, altitude=None)
        for search in (
            Search(box=(-180, -90, 180, 90)),
            Search(circle=(0, 0, 1e8)),
            Search(low=-1e7),
            Search(high=1e7),
        ):
            self.assertFalse(search.fits(nowhere, ANYBODY))

    def test_private(self) -> None:
        """A private file is listed for its owner alone; what belongs to a tool is no package for others."""
        private, tool = replace(FILE, tool="private"), replace(FILE, tool="x")
        packages = Search(keywords=("missionpackage",))
        for search in (packages, Search(), Search(tool="private")):
            self.assertFalse(search.fits(private, ANYBODY))
            self.assertTrue(search.fits(private, ALPHA))
        self.assertFalse(packages.fits(tool, ANYBODY))
        self.assertTrue(packages.fits(tool, ALPHA))
        self.assertTrue(Search(keywords=("missionpackage",), tool="x").fits(tool, ANYBODY))
        nobodys = replace(private, submitter=None)
        self.assertFalse(Search().fits(nobodys, ANYBODY))

    def test_distance(self) -> None:
        """Distances are those along the ground, over the date line and the poles as well."""
        self.assertTrue(isclose(distance(0, 0, 0, 1), 111_195, rel_tol=1e-4))
        self.assertTrue(isclose(distance(179.5, 0, -179.5, 0), 111_195, rel_tol=1e-4))
        self.assertTrue(isclose(distance(0, 89.5, 180, 89.5), 111_195, rel_tol=1e-4))
        self.assertEqual(distance(5, 5, 5, 5), 0)
