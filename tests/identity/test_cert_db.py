from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.identity.cert_db import Ban, CertDb, Record, beside, name_key, parse_line, same_issuer

NOON = datetime(2026, 3, 1, 12, tzinfo=timezone.utc)
DATES = "2026-03-01T12:00:00\t2028-03-01T12:00:00"
ISSUER = "CN=Camp CA,O=TAK"


def record(serial: int, name: str = "ALPHA", issuer: str | None = ISSUER, revoked: datetime | None = None) -> Record:
    return Record(serial, name, NOON, NOON + timedelta(days=731), revoked, issuer, "client")


class LineTests(SynchronousTestCase):
    def test_taky(self) -> None:
        """A line of taky says who, from when, until when, and the serial."""
        found = parse_line(f"V\t{DATES}\t{0x4D2:040x}\tJörg Müller")
        self.assertEqual(found, Record(0x4D2, "Jörg Müller", NOON, datetime(2028, 3, 1, 12, tzinfo=timezone.utc), None))
        found = parse_line(f"R\t{DATES}\t{0x4D2:040x}\tALPHA")
        self.assertEqual(found, Record(0x4D2, "ALPHA", NOON, None, datetime(2028, 3, 1, 12, tzinfo=timezone.utc)))

    def test_zones(self) -> None:
        """A date with a zone is understood; taky's have none and mean UTC."""
        found = parse_line("V\t2026-03-01T14:00:00+02:00\t2028-03-01T12:00:00\t01\tALPHA")
        self.assertEqual(found and found.issued, NOON)

    def test_openssl(self) -> None:
        """A line of OpenSSL's index.txt says the same."""
        found = parse_line("R\t280301120000Z\t260301120000Z,keyCompromise\t0A\tunknown\t/O=TAK/CN=ALPHA-1")
        self.assertEqual(found, Record(10, "ALPHA-1", None, datetime(2028, 3, 1, 12, tzinfo=timezone.utc), NOON))
        found = parse_line("V\tsoon\t\t0A\tunknown\tno name")
        self.assertEqual(found, Record(10, "no name"))

    def test_nothing(self) -> None:
        """Empty lines and comments are nothing."""
        self.assertEqual([parse_line(line) for line in ("", "  ", "# by hand")], [None] * 3)

    def test_same_issuer(self) -> None:
        """A revocation holds although another version of a library spells the issuer in another way."""
        for other in (ISSUER, "O=TAK,CN=Camp CA", "2.5.4.3=Camp CA, 2.5.4.10=tak", "CN=Camp\\ CA,O=TAK"):
            self.assertTrue(same_issuer(ISSUER, other), other)
        for other in ("CN=Other CA,O=TAK", "CN=Camp CA", "CN=Camp CA,O=TAK,C=DE"):
            self.assertFalse(same_issuer(ISSUER, other), other)

    def test_name_key(self) -> None:
        """Names that look the same are the same."""
        self.assertEqual(name_key("Jo\u0308rg"), name_key(" Jörg "))
        self.assertEqual(name_key("A\nB"), "A\\nB")


class CertDbTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp() + ".txt")
        self.path.touch()

    def written(self, db: CertDb) -> CertDb:
        """Write a register and read it again."""
        self.path.write_text(db.taky_text(), "utf-8")
        beside(self.path).write_text(db.text_beside(), "utf-8")
        return CertDb.read(self.path)

    def test_round_trip(self) -> None:
        """What is entered is there after writing and reading, with all that is known of it."""
        db = CertDb()
        full = Record(
            *(2, "Fox\u2028 1", NOON, NOON + timedelta(days=1), None, ISSUER, "client", "ab", "cd"),
            *("ANDROID-1", "5.4", ("Red", "Blue team")),
        )
        db.add(record(1))
        db.add(full)
        db.bans["bravo"] = Ban("BRAVO", NOON)
        db.bans["charlie"] = Ban("CHARLIE", NOON, NOON + timedelta(days=1))
        found = self.written(db)
        self.assertEqual(list(found.records()), [record(1), full])
        self.assertEqual(found.bans, db.bans)
        self.assertEqual(found.problems, [])

    def test_long_ago(self) -> None:
        """However odd a year somebody wrote, a ban is not lost when the files are written again."""
        for year in ("0026", "9999"):
            line = f'{{"ban": "fox", "since": "{year}-03-01T10:00:00Z"}}\n'
            beside(self.path).write_text(line, "utf-8")
            self.path.write_text("", "utf-8")
            found = CertDb.read(self.path)
            self.assertEqual((list(found.bans), found.text_beside()), (["fox"], line))

    def test_halves_of_characters(self) -> None:
        """What cannot be written as text is not understood, so that the file can be written again with it."""
        for line in (
            '{"ban": "\\ud800", "since": "2026-03-01T10:00:00Z"}',
            '{"serial": "1", "name": "\\udfff", "issuer": ""}',
        ):
            beside(self.path).write_text(f"{line}\n", "utf-8")
            found = CertDb.read(self.path)
            self.assertEqual((found.foreign, len(found.problems)), ([line], 1))
            self.assertEqual(self.written(found).foreign, [line])

    def test_taky_reads_it(self) -> None:
        """What is entered taky finds: it has five fields a line, dates and serials as it writes them."""
        db = CertDb()
        db.add(record(0x4D2))
        db.add(record(0x4D3, "tab\tand\nline"))
        db.revoke(record(0x4D3, "tab\tand\nline"), NOON)
        first, second = db.taky_text().splitlines()
        self.assertEqual(first, f"V\t{DATES}\t{0x4D2:040x}\tALPHA")
        self.assertEqual(second, f"R\t2026-03-01T12:00:00\t2026-03-01T12:00:00\t{0x4D3:040x}\ttab\\tand\\nline")
        for line in (first, second):
            _, issued, expires, serial, _ = line.strip().split("\t")
            datetime.fromisoformat(issued), datetime.fromisoformat(expires), int(serial, 16)

    def test_lines_stay(self) -> None:
        """Lines that are not ours stay exactly as they are, also those that nobody understands."""
        lines = ["# by hand", "nonsense", f"V\t{DATES}\t01\tALPHA", "V\tsoon\t\t02\tunknown\t/CN=B", ""]
        self.path.write_text("\n".join(lines) + "\n", "utf-8")
        beside(self.path).write_text('{"later": "version"}\nnonsense\n\n', "utf-8")
        db = CertDb.read(self.path)
        db.add(record(3))
        self.assertEqual(db.taky_text().splitlines()[:-1], lines)
        self.assertEqual(db.text_beside().splitlines()[1:], ['{"later": "version"}', "nonsense"])
        self.assertEqual(
            [(path, number) for path, number, _, _ in db.problems],
            [(str(beside(self.path)), 1), (str(beside(self.path)), 2), (str(self.path), 2)],
        )

    def test_hostile_lines(self) -> None:
        """No line of our file, however odd, keeps the others from counting."""
        good = json.dumps({"serial": "1", "name": "ALPHA", "issuer": ISSUER})
        odd = [
            *("[]", "1", '"x"', "null", '{"ban": 1}', '{"serial": 1}', '{"serial": "zz", "name": "A", "issuer": "B"}'),
            *('{"serial": "1", "name": 1, "issuer": "B"}', '{"serial": "1", "name": "A", "issuer": 2}'),
            *('{"serial": "1", "name": "A", "issuer": "B", "revoked": "soon"}', "[" * 100_000),
            *('{"serial": "1", "name": "A", "issuer": "B", "groups": 1}', '{"ban": "X", "since": 3}'),
        ]
        beside(self.path).write_text("\n".join([*odd, good]), "utf-8")
        db = CertDb.read(self.path)
        self.assertEqual([each.name for each in db.records()], ["ALPHA"])
        self.assertEqual(len(db.problems), len(odd))

    def test_revoke(self) -> None:
        """A revoked certificate is marked in both files; revoking it again changes nothing in taky's."""
        db = CertDb()
        db.add(record(1))
        db.add(record(2))
        db.revoke(record(1), NOON)
        text = db.taky_text()
        db.revoke(record(1), NOON + timedelta(days=1))
        self.assertEqual(db.taky_text(), text)
        self.assertEqual([each.revoked is not None for each in self.written(db).records()], [True, False])

    def test_revoke_openssl(self) -> None:
        """In a line of OpenSSL's index.txt the date of revocation gets its place."""
        db = CertDb(lines=["V\t280301120000Z\t\t0A\tunknown\t/CN=ALPHA"])
        db.revoke(Record(10, "ALPHA"), NOON)
        self.assertEqual(db.lines, ["R\t280301120000Z\t260301120000Z\t0A\tunknown\t/CN=ALPHA"])

    def test_revoke_unknown(self) -> None:
        """A serial that no line has gets one."""
        db = CertDb()
        db.revoke(Record(5, "unknown"), NOON)
        self.assertEqual([(each.serial, each.revoked) for each in self.written(db).records()], [(5, NOON)])

    def test_revoked_by_taky(self) -> None:
        """What taky, or somebody with an editor, has marked as revoked is revoked, and keeps its issuer."""
        db = CertDb()
        db.add(record(1))
        db.lines = [line.replace("V", "R", 1) for line in db.lines]
        (found,) = self.written(db).records()
        self.assertEqual((found.issuer, found.revoked is not None), (ISSUER, True))

    def test_lost_by_others(self) -> None:
        """What a program that knows no lock has lost in taky's file is still known, and comes back there."""
        db = CertDb()
        db.add(record(1))
        db.revoke(record(1), NOON)
        db.add(record(2, "BRAVO"))
        text = db.taky_text()
        db.lines = [f"V\t{DATES}\t{1:040x}\tALPHA"]  # neither the revocation nor BRAVO
        found = self.written(db)
        self.assertEqual([(each.serial, each.revoked) for each in found.records()], [(1, NOON), (2, None)])
        found.heal()
        self.assertEqual(found.taky_text(), text)
        found.heal()
        self.assertEqual(found.taky_text(), text)

    def test_join(self) -> None:
        """What somebody else has entered is made one with what is here: who is revoked on either side is revoked."""
        late, early = NOON + timedelta(hours=2), NOON + timedelta(hours=1)
        db = CertDb()
        db.add(record(1))
        db.add(record(2, revoked=late))
        db.lines.append(f"V\t{DATES}\t03\tCHARLIE")
        theirs = [
            record(1, "renamed", revoked=late),
            record(2, revoked=early),
            record(3, "CHARLIE", issuer=None, revoked=late),
            record(4, "DELTA", issuer=None),
            record(5, "ECHO", revoked=early),
        ]
        joined = db.join([*theirs, record(2)], [])
        self.assertEqual(joined, [*theirs, record(2, revoked=early)])
        found = {each.serial: each for each in self.written(db).records()}
        self.assertEqual(found[1], theirs[0])
        self.assertEqual([found[serial].revoked for serial in (1, 2, 3, 4, 5)], [late, early, late, None, early])
        self.assertEqual(len(db.lines), 5)

    def test_join_bans(self) -> None:
        """Of two bans of a name the last word counts, whichever was first here."""
        hours = [NOON + timedelta(hours=hour) for hour in range(4)]
        words = [
            Ban("Fox", hours[0]),
            Ban("Fox", hours[0], hours[1]),
            Ban("FOX", hours[2]),
            Ban("Fox", hours[2], hours[3]),
        ]
        for at, later in enumerate(words):
            for earlier in words[: at + 1]:
                for order in ((earlier, later), (later, earlier)):
                    db = CertDb()
                    for ban in order:
                        db.join([], [ban])
                    self.assertEqual(db.bans, {"fox": later})

    def test_same_serial(self) -> None:
        """Two authorities may give the same serial: of those, one is revoked and the other is not."""
        db = CertDb()
        db.add(record(1))
        db.add(record(1, "BRAVO", "CN=Other"))
        db.revoke(record(1), NOON)
        found = {each.issuer: each.revoked for each in self.written(db).records()}
        self.assertEqual(found, {ISSUER: NOON, "CN=Other": None})

    def test_no_file(self) -> None:
        """The file of taky has to be there, ours need not."""
        self.assertEqual(list(CertDb.read(self.path).records()), [])
        self.path.unlink()
        self.assertRaises(FileNotFoundError, CertDb.read, self.path)

    @given(st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["add", "revoke", "lose", "taky"])), max_size=20))
    def test_revoked_stays_revoked(self, steps: list[tuple[int, str]]) -> None:
        """Whatever is entered, revoked, lost or changed by others in whatever order: who was revoked stays so."""
        db, revoked, known = CertDb(), set[int](), set[int]()
        for serial, step in steps:
            if step == "add" and serial not in known:
                db.add(record(serial))
                known.add(serial)
            elif step == "revoke":
                held = next((each for each in db.records() if each.serial == serial), None)
                db.revoke(held or Record(serial, "unknown"), NOON)
                if held is not None and held.issuer is not None:
                    revoked.add(serial)
            elif step == "lose":
                db.lines = db.lines[:-1]
            elif step == "taky":
                db.lines = [line.replace("R", "V", 1) for line in db.lines]
            db.heal()
        found = {each.serial: each.revoked for each in db.records()}
        self.assertTrue(all(found[serial] is not None for serial in revoked))
        self.assertTrue(known <= set(found))
