from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cli import backup_names as names


class KindTests(SynchronousTestCase):
    def test_known(self) -> None:
        """What belongs to a site has a place in a backup; keys are for their owner alone afterwards."""
        for name in (
            *(names.CONF, *names.SSL.values(), names.REGISTER_BESIDE, names.CRL, names.STORE, names.HISTORY),
            *(names.DATA + name for name in names.DATA_FILES),
            *(f"{names.ISSUED}{'0a' * 20}.pem", f"{names.BLOBS}owner", f"{names.BLOBS}0a/{'0a' * 32}"),
            *(f"{names.PROFILES}enrollment/a.pref", f"{names.PROFILES}connection/maps/Übersicht 1.zip"),
        ):
            self.assertIsNotNone(names.kind_of(name), name)
        for name in (names.CONF, "ssl/ca.key", "ssl/server.key", "ssl/server.crt", names.STORE):
            kind = names.kind_of(name)
            self.assertEqual(kind and kind.mode, 0o600, name)

    def test_unknown(self) -> None:
        """Nothing else has, whatever it looks like."""
        for name in (
            *("", "/etc/passwd", "../taky.conf", "taky.conf/", "taky.conf\n", "ssl/../taky.conf", "ssl/other.key"),
            *("ssl/issued/../../x.pem", "ssl/issued/xx.pem", "data/taky.lock", "data/taky.sqlite-wal", "data/x"),
            *(f"{names.PROFILES}other/a", f"{names.PROFILES}enrollment", f"{names.PROFILES}enrollment/.a"),
            *(f"{names.PROFILES}enrollment/../a", f"{names.PROFILES}enrollment/a/../b", f"{names.PROFILES}a\\b"),
            *(f"{names.PROFILES}enrollment//a", f"{names.PROFILES}enrollment/a\0", f"{names.PROFILES}enrollment/"),
            *(f"{names.BLOBS}zz/{'0a' * 32}", f"{names.BLOBS}0a/{'0a' * 31}", f"{names.BLOBS}incoming/{'0a' * 16}"),
        ):
            self.assertIsNone(names.kind_of(name), name)
