"""Find contacts by callsign."""

from __future__ import annotations

from collections.abc import Iterable

from .contact import Contact


class Callsigns:
    """All contacts by their callsign; several may have the same."""

    def __init__(self) -> None:
        self._exact: dict[str, dict[str, Contact]] = {}
        self._folded: dict[str, dict[str, Contact]] = {}

    def find(self, callsign: str) -> Iterable[Contact]:
        """Find all contacts of a callsign; in another case only if there is no exact match."""
        found = self._exact.get(callsign) or self._folded.get(callsign.casefold())
        return list(found.values()) if found else ()

    def rename(self, contact: Contact, callsign: str) -> None:
        """Give a contact its callsign; an empty one takes it out."""
        for index, old, new in (
            (self._exact, contact.callsign, callsign),
            (self._folded, contact.callsign.casefold(), callsign.casefold()),
        ):
            if old in index:
                index[old].pop(contact.uid, None)
                if not index[old]:
                    del index[old]
            if new:
                index.setdefault(new, {})[contact.uid] = contact
        contact.callsign = callsign
