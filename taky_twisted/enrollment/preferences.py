"""What a phone is told about its server: ``.pref`` files and the manifests of the packages that carry them.

Source: ATAK-CIV ``app/preferences/PreferenceControl.java`` (names and classes of keys),
``missionpackage/file/MissionPackageManifest.java`` (manifest).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Union

from lxml import etree

Value = Union[bool, int, str]
_CLASSES = {bool: "Boolean", int: "Integer", str: "String"}

STREAMS = "cot_streams"
APP = "com.atakmap.app_preferences"
"""ATAK turns it into the name of its own flavor."""


def preferences(sections: Mapping[str, Mapping[str, Value]]) -> bytes:
    """Spell a ``.pref`` file."""
    root = etree.Element("preferences")
    for name, entries in sections.items():
        section = etree.SubElement(root, "preference", version="1", name=name)
        for key, value in entries.items():
            entry = etree.SubElement(section, "entry", key=key)
            entry.set("class", f"class java.lang.{_CLASSES[type(value)]}")
            entry.text = str(value).lower() if isinstance(value, bool) else str(value)
    return etree.tostring(root, encoding="ASCII", xml_declaration=True, standalone=True, pretty_print=True)


def manifest(uid: str, name: str, entries: Iterable[str]) -> bytes:
    """Spell ``MANIFEST/manifest.xml``; phones look for ``version="2"`` with just these quotes."""
    root = etree.Element("MissionPackageManifest", version="2")
    configuration = etree.SubElement(root, "Configuration")
    told = {"uid": uid, "name": name, "onReceiveImport": "true", "onReceiveDelete": "true"}
    for key, value in told.items():
        etree.SubElement(configuration, "Parameter", name=key, value=value)
    contents = etree.SubElement(root, "Contents")
    for entry in entries:
        etree.SubElement(contents, "Content", ignore="false", zipEntry=entry)
    return etree.tostring(root, encoding="UTF-8", pretty_print=True)
