from __future__ import annotations

import io
import time
import zipfile
from dataclasses import dataclass
from xml.etree import ElementTree

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.enrollment.packages import (
    Connection,
    Identity,
    connection_package,
    enrollment_package,
    plain_package,
)

CONNECTION = Connection("Lager Süd", "tak.example", 8089, b"TRUST", "trust-pw")
IDENTITY = Identity("Jörg Müller", b"CLIENT", "client-pw")


@dataclass
class Package:
    """A package as a phone sees it."""

    content: bytes

    def __post_init__(self) -> None:
        with zipfile.ZipFile(io.BytesIO(self.content)) as package:
            assert package.testzip() is None
            self.files = {name: package.read(name) for name in package.namelist()}
        self.manifest = ElementTree.fromstring(self.files["MANIFEST/manifest.xml"])
        self.listed = [each.get("zipEntry") or "" for each in self.manifest.iterfind("Contents/Content")]
        (pref,) = (name for name in self.listed if name.endswith(".pref"))
        self.sections = {
            section.get("name"): {entry.get("key") or "": entry.text or "" for entry in section}
            for section in ElementTree.fromstring(self.files[pref])
        }
        self.stream = self.sections["cot_streams"]
        self.app = self.sections["com.atakmap.app_preferences"]
        self.stores = {name: data for name, data in self.files.items() if name.endswith(".p12")}


class PackageTests(SynchronousTestCase):
    def check(self, package: Package, folder: str, place: str) -> None:
        """Entries, manifest and preferences fit each other."""
        self.assertEqual(sorted(package.files), sorted(["MANIFEST/manifest.xml", *package.listed]))
        self.assertEqual({name.rpartition("/")[0] for name in package.listed}, {folder})
        for key, data in (("caLocation", b"TRUST"), ("certificateLocation", b"CLIENT")):
            for keys, name in ((package.stream, f"{key}0"), (package.app, key)):
                if name in keys:
                    self.assertEqual(keys[name][: len(place)], place)
                    file = keys[name][len(place) :]
                    self.assertTrue(file.isascii() and "/" not in file and " " not in file, file)
                    self.assertEqual(package.files[f"{folder}/{file}".lstrip("/")], data)
        self.assertEqual(package.stream["connectString0"], "tak.example:8089:ssl")
        self.assertEqual(package.stream["description0"], "Lager Süd")
        self.assertEqual((package.stream["count"], package.stream["enabled0"]), ("1", "true"))
        self.assertEqual(package.stream["caPassword0"], "trust-pw")
        self.assertEqual(package.app["caPassword"], "trust-pw")

    def test_atak(self) -> None:
        """ATAK and WinTAK find everything in ``certs/``, by keys with and without a number."""
        package = Package(connection_package(CONNECTION, IDENTITY))
        self.check(package, "certs", "cert/")
        self.assertEqual(package.listed[0], "certs/server.pref")
        self.assertEqual(
            set(package.stream),
            {
                *("count", "description0", "enabled0", "connectString0"),
                *("caLocation0", "caPassword0", "certificateLocation0", "clientPassword0"),
            },
        )
        self.assertEqual(
            set(package.app),
            {"displayServerConnectionWidget", "caLocation", "caPassword", "certificateLocation", "clientPassword"},
        )
        self.assertEqual(package.app["clientPassword"], "client-pw")
        self.assertEqual(package.stream["clientPassword0"], "client-pw")
        self.assertEqual(len(package.stores), 2)

    def test_itak(self) -> None:
        """ITAK and TAK Aware find everything at the root, and locations are bare names."""
        package = Package(connection_package(CONNECTION, IDENTITY, itak=True))
        self.check(package, "", "")
        self.assertIn("config.pref", package.files)
        self.assertRegex(package.app["caLocation"], r"^caCert-[0-9a-f]{12}\.p12$")
        self.assertRegex(package.app["certificateLocation"], r"^clientCert-[0-9a-f]{12}\.p12$")

    def test_enrollment(self) -> None:
        """In the package for enrolling there is no certificate, and the phone is told to ask for a password."""
        for itak, folder, place in ((False, "certs", "cert/"), (True, "", "")):
            package = Package(enrollment_package(CONNECTION, itak=itak))
            self.check(package, folder, place)
            self.assertEqual(list(package.stores.values()), [b"TRUST"])
            self.assertEqual(package.stream["useAuth0"], "true")
            self.assertEqual(package.stream["cacheCreds0"], "Cache credentials")
            self.assertEqual(package.stream["enrollForCertificateWithTrust0"], "true")
            everything = {**package.stream, **package.app}
            self.assertEqual([key for key in everything if "certificateLocation" in key or "client" in key], [])

    def test_plain(self) -> None:
        """A server without TLS needs nothing but its address."""
        package = Package(plain_package("Lager Süd", "192.0.2.5", 8087))
        self.assertEqual(package.stream["connectString0"], "192.0.2.5:8087:tcp")
        self.assertEqual(package.stores, {})
        self.assertEqual(sorted(package.files), ["MANIFEST/manifest.xml", "certs/server.pref"])

    def test_unique(self) -> None:
        """Packages of two servers, or two of one, never overwrite each other's files on a phone."""
        names, uids = set[str](), set[str | None]()
        for itak in (False, True, False, True):
            package = Package(connection_package(CONNECTION, IDENTITY, itak=itak))
            names |= {name.rpartition("/")[2] for name in package.stores}
            uids |= {each.get("value") for each in package.manifest.iterfind("Configuration/Parameter[@name='uid']")}
        self.assertEqual((len(names), len(uids)), (8, 4))

    def test_no_clock(self) -> None:
        """A machine that believes it is 1970 makes packages, too."""
        self.patch(time, "localtime", lambda: time.gmtime(0))
        self.assertIn("certs/server.pref", Package(connection_package(CONNECTION, IDENTITY)).files)
