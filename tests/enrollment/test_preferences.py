from __future__ import annotations

from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.preferences import manifest, preferences


class PreferenceTests(SynchronousTestCase):
    def test_pref(self) -> None:
        """Keys have the Java classes that ATAK expects, and the file is ASCII whatever it says."""
        text = preferences({"cot_streams": {"count": 1, "enabled0": True, "description0": "Lager <Süd> & Co"}})
        self.assertTrue(text.startswith(b"<?xml version='1.0' encoding='ASCII' standalone='yes'?>\n"))
        self.assertTrue(text.isascii())
        (section,) = ElementTree.fromstring(text)
        self.assertEqual((section.tag, section.attrib), ("preference", {"version": "1", "name": "cot_streams"}))
        self.assertEqual(
            [(entry.get("key"), entry.get("class"), entry.text) for entry in section],
            [
                ("count", "class java.lang.Integer", "1"),
                ("enabled0", "class java.lang.Boolean", "true"),
                ("description0", "class java.lang.String", "Lager <Süd> & Co"),
            ],
        )

    def test_manifest(self) -> None:
        """The manifest has what ATAK looks for, letter by letter, and lists the entries."""
        text = manifest("1-2-3", 'Lager "Süd"', ["certs/a.pref", "certs/b.p12"])
        self.assertTrue(text.startswith(b'<MissionPackageManifest version="2">'))
        root = ElementTree.fromstring(text)
        parameters = {each.get("name"): each.get("value") for each in root.iterfind("Configuration/Parameter")}
        wanted = {"uid": "1-2-3", "name": 'Lager "Süd"', "onReceiveImport": "true", "onReceiveDelete": "true"}
        self.assertEqual(parameters, wanted)
        self.assertEqual(
            [each.attrib for each in root.iterfind("Contents/Content")],
            [{"ignore": "false", "zipEntry": name} for name in ("certs/a.pref", "certs/b.p12")],
        )
