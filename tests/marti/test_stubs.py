from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.marti import stubs
from taky_twisted.marti.errors import MartiError
from taky_twisted.marti.stubs import LOG_BYTES, StubsArea
from taky_twisted.notices import Notices
from tests.fakes import LogLines, principal
from tests.marti.asking import NODE_ID, Asking

CRASHED = "/Marti/ErrorLog?platform=ATAK&uid=ANDROID-1&callsign=ALPHA&majorVersion=5&minorVersion=1"


class StubsAreaTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.log = LogLines(self)
        self.area = StubsArea(Notices(self.clock))
        self.ask = Asking(self.area, clock=self.clock)

    def test_bare_lists(self) -> None:
        """Reports and plugins: there are none, whoever asks with which parameters."""
        for path in ("citrap?keywords=x&bbox=1,2,3,4&subscribe=true", "plugins/info/all"):
            answer = self.ask("GET", f"/Marti/api/{path}")
            self.assertEqual((answer.status, answer.type, answer.body), (200, "application/json", b"[]"), path)

    def test_enveloped_lists(self) -> None:
        """Pictures and icons: there are none, in the envelope."""
        for path, type_ in (
            ("cops?path=/", "Mission"),
            ("cops/hierarchy", "CopHierarchyNode"),
            ("iconset/all/uid", "String"),
        ):
            answer = self.ask("GET", f"/Marti/api/{path}")
            self.assertEqual((answer.status, answer.type), (200, "application/json"), path)
            self.assertEqual(answer.json, {"version": "3", "type": type_, "data": [], "nodeId": NODE_ID}, path)

    def test_repeater(self) -> None:
        """Its envelope has another version."""
        answer = self.ask("GET", "/Marti/api/repeater/list")
        self.assertEqual(answer.json, {"version": "1.0.0", "type": "Repeatable", "data": []})

    def test_error_log(self) -> None:
        """A client's log is taken, and the operator told of it once per client, in one line whatever it claims."""
        for _ in range(3):
            self.assertEqual(self.ask("POST", CRASHED, b"UEsDBA==", who=principal("alice")).status, 200)
        self.ask("POST", "/Marti/ErrorLog?callsign=%0aEVIL", b"")
        self.assertEqual(
            self.log(),
            [
                "alice (ALPHA) sent an error log of ATAK; it is not kept",
                r"198.51.100.7 (\nEVIL) sent an error log of an unknown client; it is not kept",
            ],
        )
        self.ask("POST", "/Marti/ErrorLog", b"", who=principal("bob"))
        self.assertIn("bob (no callsign)", self.log()[-1])

    def test_size_of_log(self) -> None:
        """A log has so many bytes at most."""
        self.assertEqual(self.ask("POST", CRASHED, b"x" * LOG_BYTES).status, 200)
        self.assertEqual(self.ask("POST", CRASHED, b"x" * (LOG_BYTES + 1)).status, 413)

    def test_many_senders(self) -> None:
        """However many clients crash, only so many are remembered."""
        self.patch(stubs, "MAX_SENDERS", 2)
        for name in ("a", "b", "c", "c", "b", "a"):
            self.ask("POST", CRASHED, b"", who=principal(name))
        self.assertEqual([line[0] for line in self.log()], ["a", "b", "c", "a"])

    def test_administrators(self) -> None:
        """The server's settings are nobody's business."""
        for method, path in (
            ("GET", "ErrorLog?id=ALL"),
            ("DELETE", "ErrorLog?id=ALL"),
            ("GET", "api/authentication/config"),
            ("GET", "api/config"),
            ("POST", "api/iconset"),
            ("GET", "api/inputs"),
            ("POST", "api/plugins/info/started"),
            ("POST", "api/plugins/info/enabled"),
            ("POST", "api/plugins/info/archive"),
            ("GET", "api/repeater/period"),
            ("POST", "api/repeater/period"),
            ("GET", "api/repeater/remove/x"),
            ("GET", "api/security/config"),
            ("PUT", "api/security/config"),
            ("GET", "api/security/isSecure"),
            ("GET", "api/security/verifyConfig"),
        ):
            answer = self.ask(method, f"/Marti/{path}", who=principal("alice"))
            self.assertEqual((answer.status, answer.json["code"]), (403, 10), path)
        with self.assertRaises(MartiError) as raised:
            self.area.administer(None, uid="x")  # type: ignore[arg-type]
        self.assertEqual(raised.exception.status, 501)
