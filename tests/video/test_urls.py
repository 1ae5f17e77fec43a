from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.internet.abstract import isIPv6Address
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.video.urls import PROTOCOLS, Place, is_protocol, join, split


class UrlTests(SynchronousTestCase):
    """A feed's place as one URL, and in parts."""

    def test_both_ways(self) -> None:
        """What an older client says in parts a newer one reads as a URL, and the other way round."""
        for place, url in (
            (Place("rtsp", "192.0.2.7", 554, "/live/1?key=a#b"), "rtsp://192.0.2.7:554/live/1?key=a#b"),
            (Place("rtsp", "192.0.2.7", -1, "/live"), "rtsp://192.0.2.7/live"),
            (Place("udp", "239.1.1.1", 1234, ""), "udp://239.1.1.1:1234"),
            (Place("udp", "@239.1.1.1", 1234, ""), "udp://@239.1.1.1:1234"),
            (
                Place("srt", "user:secret@cam.example", 9000, "?mode=caller"),
                "srt://user:secret@cam.example:9000?mode=caller",
            ),
            (Place("http", "[2001:db8::1]", 80, "/x"), "http://[2001:db8::1]:80/x"),
            (Place("http", "[2001:db8::1]", -1, ""), "http://[2001:db8::1]"),
            (Place("http", "user:secret@[2001:db8::1]", 80, ""), "http://user:secret@[2001:db8::1]:80"),
            (Place("http", "user:123@cam", -1, ""), "http://user:123@cam"),
            (Place("udp", "a:b:1", -1, ""), "udp://a:b:1"),
            (Place("file", "", -1, "/sdcard/v.mp4"), "file:///sdcard/v.mp4"),
            (Place("raw", "rtsps://cam.example/x", -1, ""), "rtsps://cam.example/x"),
            (Place("raw", "/dev/video0", -1, ""), "/dev/video0"),
        ):
            self.assertEqual(join(place.protocol, place.address, place.port, place.path), url)
            self.assertEqual(split(url), place)

    def test_join(self) -> None:
        """Parts that clients spell differently make the same URL."""
        self.assertEqual(join("rtsp", "cam", 554, "live"), "rtsp://cam:554/live")
        self.assertEqual(join("rtsp", "2001:db8::1", 554, ""), "rtsp://[2001:db8::1]:554")
        self.assertEqual(join("rtsp", "rtsp://cam:554/live", -1, ""), "rtsp://cam:554/live")
        for port in (0, -1, 65536):
            self.assertEqual(join("rtsp", "cam", port, ""), "rtsp://cam")
        self.assertEqual(join("rtsp", "cam", 65535, ""), "rtsp://cam:65535")

    def test_split(self) -> None:
        """A scheme may be spelled in capitals; a port that is none stays with the address."""
        self.assertEqual(split("RTSP://cam/x"), Place("rtsp", "cam", -1, "/x"))
        for port in ("0", "007", "65536", "99999", "x", ""):
            self.assertEqual(split(f"udp://cam:{port}"), Place("udp", f"cam:{port}", -1, ""))

    def test_is_protocol(self) -> None:
        """A protocol is a word that a URL can begin with."""
        self.assertTrue(all(map(is_protocol, ("raw", "rtsps", "a+b.c-1", *PROTOCOLS))))
        self.assertFalse(any(map(is_protocol, ("", "1a", "a b", "a:", "<", "ä", "a\n"))))

    @given(st.from_regex(r"\A(rtsp|UDP|http|foo)://[^\n]{0,30}\Z") | st.text(max_size=20))
    def test_any_url(self, url: str) -> None:
        """However a URL is taken apart, the parts make it again; bare IPv6 addresses get their brackets."""
        place = split(url)
        assume(not isIPv6Address(place.address))
        self.assertEqual(join(place.protocol, place.address, place.port, place.path).lower(), url.lower())
