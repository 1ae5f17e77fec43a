from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.cot.types import (
    CONTROL_TYPES,
    EMERGENCY_CANCEL,
    EMERGENCY_TYPES,
    is_control,
    is_protected,
    is_retained,
    passes_geo_filter,
)

CHATS = ("b-t-f", "b-t-f-d", "b-t-f-r", "b-t-f-s")
OFFERS = ("b-f-t-r", "b-f-t-a")
ITEMS = ("a-f-G-U-C", "a-h-G", "b-m-p-s-m", "b-m-p-w", "b-m-r", "b-r-f-h-c", "b-i-v", "u-d-f-m", "u-rb-a", "u-r-b-c-c")


class ControlTests(SynchronousTestCase):
    """What is between a client and its server."""

    def test_control(self) -> None:
        """Pings, subscriptions, filters and negotiation stay here, in whatever case they are spelled."""
        for type_ in (
            "t-x-c-t",
            "t-x-c-t-r",
            "t-b",
            "t-b-a",
            "t-b-c",
            "t-b-q",
            "t-x-c-f",
            "t-x-c-m",
            "t-x-c-i-e",
            "t-x-c-i-d",
            "t-x-takp-v",
            "t-x-takp-q",
            "t-x-takp-r",
        ):
            self.assertTrue(is_control(type_), type_)
            self.assertTrue(is_control(type_.upper()), type_)
            self.assertIn(type_, CONTROL_TYPES)

    def test_tasking_is_routed(self) -> None:
        """Other tasking is for other clients: deletes, mission notices, and what nobody knows."""
        for type_ in ("t-x-d-d", "t-x-m-c", "t-x", "t-x-c-t-x", "t", "", "a-f-G", "b-t-f", *EMERGENCY_TYPES):
            self.assertFalse(is_control(type_), type_)


class RetainedTests(SynchronousTestCase):
    """What newcomers are shown."""

    def test_items(self) -> None:
        """Contacts, markers, routes, casevacs, videos and drawings are shown, archived or not."""
        for type_ in ITEMS:
            self.assertTrue(is_retained(type_, archived=False), type_)
            self.assertTrue(is_retained(type_, archived=True), type_)

    def test_archived(self) -> None:
        """``<archive/>`` makes anything else an item too."""
        for type_ in ("b-l-l-l-n-l", "r-o", "c", "u-d", "b-w-A", "y"):
            self.assertFalse(is_retained(type_, archived=False), type_)
            self.assertTrue(is_retained(type_, archived=True), type_)

    def test_never(self) -> None:
        """Chat, file offers, emergencies and tasking are not shown again, not even archived."""
        for type_ in (*CHATS, *OFFERS, *EMERGENCY_TYPES, EMERGENCY_CANCEL, "t-x-d-d", "t-x-m-c"):
            self.assertFalse(is_retained(type_, archived=True), type_)
            self.assertFalse(is_retained(type_, archived=False), type_)


class QueueTests(SynchronousTestCase):
    """What a slow reader is owed."""

    def test_protected(self) -> None:
        """Chat, receipts, emergencies, file offers, deletes and notices are never displaced by something newer."""
        for type_ in (*CHATS, *OFFERS, *EMERGENCY_TYPES, EMERGENCY_CANCEL, "t-x-d-d", "t-x-m-c", "t-x-c-t-r"):
            self.assertTrue(is_protected(type_), type_)

    def test_newest_suffices(self) -> None:
        """Of positions and items the newest of each uid will do."""
        for type_ in ITEMS:
            self.assertFalse(is_protected(type_), type_)


class GeoFilterTests(SynchronousTestCase):
    """What reaches a client wherever it looks."""

    def test_always(self) -> None:
        """Emergencies and chat pass an area filter from anywhere."""
        for type_ in ("b-a-o-tbl", "b-a-o-pan", "b-a-o-opn", "b-a-o-can", "b-a-g", *CHATS):
            self.assertTrue(passes_geo_filter(type_), type_)

    def test_by_place(self) -> None:
        """Everything that is somewhere is filtered by where it is."""
        for type_ in (*ITEMS, *OFFERS, "t-x-d-d"):
            self.assertFalse(passes_geo_filter(type_), type_)
