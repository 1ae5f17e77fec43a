from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import fields
from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.records import Kept, Record
from taky_twisted.stores.migrations import migrations
from taky_twisted.stores.tables import CHATS, CONTACTS, EMERGENCIES, ITEMS, TABLES, delete_expired, read_all
from tests.stores.contract import chat, contact, emergency, everything, item, tombstone
from tests.threaded_clock import EPOCH


class TablesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        self.addCleanup(self.connection.close)
        for script in migrations():
            self.connection.executescript(script)

    def put(self, *records: Record) -> None:
        for record in records:
            table = TABLES[type(record)]
            self.connection.execute(table.put, table.row(record))

    def test_every_kind(self) -> None:
        """No kind of record, and no field of one, is forgotten."""
        self.assertEqual(set(TABLES), set(get_args(Record)))
        self.assertEqual(len(fields(Kept)), len(TABLES))

    def test_spelling(self) -> None:
        """Groups and lists are JSON that people can read, so that other programs can use the file."""
        self.put(contact(), emergency())
        (groups,) = self.connection.execute("SELECT groups_out FROM contact").fetchone()
        self.assertEqual(groups, '["__ANON__", "grün"]')
        row = self.connection.execute("SELECT callsigns, uids FROM emergency").fetchone()
        self.assertEqual(row, ('["BRAVO", "", "C\\""]', '["ANDROID-2"]'))

    def test_round(self) -> None:
        """What is put is read as it was."""
        put = (item(), tombstone(), contact(), emergency(), chat(3))
        self.put(*put)
        self.assertEqual(set(everything(read_all(self.connection, EPOCH)).values()), set(put))
        (found,) = CONTACTS.read(self.connection, EPOCH)
        self.assertIs(found.online, True)
        (raised,) = EMERGENCIES.read(self.connection, EPOCH)
        self.assertEqual(raised.callsigns, ("BRAVO", "", 'C"'))

    def test_put_changes(self) -> None:
        """A second record with the same key takes the first one's place."""
        self.put(item(xml=b"1"), item(xml=b"2"))
        self.assertEqual(ITEMS.read(self.connection, EPOCH), [item(xml=b"2")])

    def test_remove(self) -> None:
        """A key as the records spell it finds the row, numbers too."""
        self.put(chat(12), chat(2))
        self.connection.execute(CHATS.remove, ("12",))
        self.assertEqual(CHATS.read(self.connection, EPOCH), [chat(2)])

    def test_expired(self) -> None:
        """What has expired is not read, and deleted if that is possible."""
        self.put(item(expires=EPOCH), chat(1, expires=EPOCH), contact(), emergency())
        self.assertEqual(set(everything(read_all(self.connection, EPOCH)).values()), {contact(), emergency()})
        self.assertEqual(len(everything(read_all(self.connection, EPOCH - 1))), 4)
        delete_expired(self.connection, EPOCH)
        self.assertEqual(len(everything(read_all(self.connection, EPOCH - 1))), 2)

    def test_time_zero(self) -> None:
        """A clock that starts at zero hides nothing."""
        self.put(contact(), item())
        self.assertEqual(len(everything(read_all(self.connection, 0.0))), 2)

    def test_delete_all_or_nothing(self) -> None:
        """When deleting fails half-way, nothing was deleted and no transaction stays open."""
        self.put(item(expires=EPOCH))
        self.connection.execute("ALTER TABLE chat RENAME TO gone")
        with self.assertRaises(sqlite3.OperationalError):
            delete_expired(self.connection, EPOCH)
        self.assertFalse(self.connection.in_transaction)
        self.assertEqual(len(ITEMS.read(self.connection, EPOCH - 1)), 1)

    def test_damaged_column(self) -> None:
        """A column that holds what we never write is an error, not a record."""
        for value in ("red", "[1, [2]]", '"red"'):
            with closing(sqlite3.connect(":memory:")) as connection:
                connection.executescript(migrations()[0])
                connection.execute(ITEMS.put, ITEMS.row(item()))
                connection.execute('UPDATE item SET "groups" = ?', (value,))
                with self.assertRaises(ValueError):
                    ITEMS.read(connection, EPOCH)
