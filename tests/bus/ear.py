"""A `BusListener` that remembers everything in the order in which it was told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taky_twisted.identity.principal import ANONYMOUS
from taky_twisted.interfaces import Node
from taky_twisted.routing.words import Handed, Kick, Left, Said, Speaker, Word
from tests.samples import chat, event, sa

SPEAKER = Speaker(1, ANONYMOUS, ANONYMOUS, "192.0.2.1:5000 tls", 1.5)
REPORT = event(sa("A", "ALPHA"))
CHAT = event(chat("A"))


def left(number: int) -> Left:
    """Make a word that may be dropped."""
    return Left(number, True)


def kick(number: int) -> Kick:
    """Make a word that waits while Redis is away."""
    return Kick(str(number), "")


def said(protected: bool = False) -> Said:
    """Make a word with an event."""
    return Said(SPEAKER, CHAT if protected else REPORT)


def number_of(word: Word) -> int | None:
    """Say which `left` or `kick` it is; None if it is another word."""
    if isinstance(word, Left):
        return word.connection
    return int(word.name) if isinstance(word, Kick) and word.name.isdecimal() else None


class Ear:
    """Hears."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        """All calls: what, and its arguments."""
        self.words: list[Word] = []
        self.numbers: dict[str, list[int]] = {}
        """By node: what was heard of `left` and `kick`."""
        self.lost: list[Word] = []
        self.on_word: Callable[[Word], object] = lambda word: None
        """Called with each word."""

    def heard(self, node: str, word: Word) -> None:
        self.told.append(("heard", node, word))
        self.words.append(word)
        number = number_of(word)
        if number is not None:
            self.numbers.setdefault(node, []).append(number)
        self.on_word(word)

    def joined(self, node: Node) -> None:
        self.told.append(("joined", node.name))

    def gone(self, node: Node, clean: bool) -> None:
        self.told.append(("gone", node.name, clean))

    def missed(self, node: str) -> None:
        self.told.append(("missed", node))

    def back(self) -> None:
        self.told.append(("back",))

    def undelivered(self, word: Word) -> None:
        self.told.append(("undelivered", word))
        self.lost.append(word)

    def take(self) -> list[tuple[Any, ...]]:
        """Take what was told since the last time."""
        told, self.told = self.told, []
        return told


__all__ = ["CHAT", "REPORT", "SPEAKER", "Ear", "Handed", "kick", "left", "number_of", "said"]
