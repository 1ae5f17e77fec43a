"""Imports point down; what points anywhere else is named here with the rule that it breaks.

====  =======================================================  =====================================================
  1   cot, takproto                                            pure: no Twisted, nothing of ours but cot
  2   identity, routing, enterprise_sync, history, video,      the domain: may import 1, and each other, though never
      enrollment, missions; interfaces, records, background,   in a circle
      logs, own_thread, redis_client, config.limits, config.values (data)
  3   stores, bus (back); streaming, marti, web, admin,        doors: may import 1 and 2, never another door; the
      metrics, cli (front); config, endpoints, data_folder     settings (the last three) may be used by a front door
  4   server, doors, opening, reloading, api, operating, ...;  wires; nobody imports tap, and it alone has the reactor
      tap
====  =======================================================  =====================================================
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "taky_twisted"

PURE = {"cot", "takproto"}
DOMAIN = {"identity", "routing", "enterprise_sync", "history", "video", "enrollment", "missions"}
GROUND = {
    "interfaces",
    "records",
    "background",
    "logs",
    "notices",
    "own_thread",
    "files",
    "config.limits",
    "config.values",
}
GROUND |= {"files", "json_logs", "record_codec", "redis_client", "redis_errors", "redis_protocol"}
BACK = {"stores", "bus"}
FRONT = {"streaming", "marti", "web", "admin", "metrics", "cli"}
SETTINGS = {"config", "endpoints", "data_folder"}
TOP = {
    "server",
    "doors",
    "reloading",
    "api",
    "operating",
    "notify",
    "admitting",
    "enrolling",
    "opening",
    "joining",
    "sharing",
    "timekeeping",
    "watching",
    "tap",
    "signals",
    "supervised",
    "supervising",
}

LAYER = {
    **dict.fromkeys(PURE, 1),
    **dict.fromkeys(DOMAIN | GROUND, 2),
    **dict.fromkeys(BACK | FRONT | SETTINGS, 3),
    **dict.fromkeys(TOP, 4),
}
REACTOR = "twisted.internet.reactor"


@dataclass(frozen=True)
class Import:
    """One imported name: the module that wants it, and the dotted name of what it wants."""

    importer: str
    imported: str
    line: int
    at_run_time: bool
    """False under ``if TYPE_CHECKING``."""

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.imported}"


def part_of(module: str) -> str:
    """Name the part of ours that a dotted name belongs to, as LAYER spells it; empty if none."""
    names = module.split(".")
    if names[0] != PACKAGE or len(names) == 1:
        return ""
    two = ".".join(names[1:3])
    return two if two in LAYER else names[1]


def imports_in(source: str, module: str, *, is_package: bool = False) -> Iterator[Import]:
    """Find every import in a module, wherever it stands; ``from a import b`` counts as ``a.b``."""

    def visit(node: ast.AST, at_run_time: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, at_run_time)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")
                parents = parents[: len(parents) - node.level + is_package]
                base = ".".join(parents + [base] * bool(base))
            for alias in node.names:
                yield Import(module, f"{base}.{alias.name}", node.lineno, at_run_time)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                yield from visit(statement, False)
            for statement in node.orelse:
                yield from visit(statement, at_run_time)
        else:
            for child in ast.iter_child_nodes(node):
                yield from visit(child, at_run_time)

    return visit(ast.parse(source, module), True)


def broken_rule(wanted: Import) -> str | None:
    """Say which rule an import breaks, or nothing."""
    own, other = part_of(wanted.importer), part_of(wanted.imported)
    twisted = wanted.imported.split(".")[0] == "twisted"
    if own and own not in LAYER:
        return f"the part {own} has no layer: give it one in tests/test_layers.py"
    if wanted.imported == REACTOR or wanted.imported.startswith(f"{REACTOR}."):
        return None if own == "tap" else "only tap.py has the global reactor: take a clock or an endpoint as argument"
    if own in PURE and twisted:
        return "layer 1 is pure: no Twisted"
    if own in PURE and other == "" and wanted.imported.split(".")[0] == PACKAGE:
        return "layer 1 is pure: nothing of ours but cot"
    if not other or other == own:
        return None
    if other == "tap":
        return "tap.py wires and is imported by nobody"
    if other not in LAYER:
        # `from taky_twisted import __version__`, or a part that does not exist: Python says so.
        return None
    if own == "":
        return None if other == "endpoints" else "the plugin file imports nothing heavy: endpoints only"
    if own == "cot":
        return "cot knows nothing but itself"
    if own == "takproto":
        return None if other == "cot" else "takproto knows nothing but cot"
    if LAYER[other] > LAYER[own]:
        return f"imports point down: layer {LAYER[own]} does not import layer {LAYER[other]}"
    if own in SETTINGS and LAYER[other] == 3 and other not in SETTINGS:
        return "config, endpoints and data_folder open no door"
    if own == "cli" and other == "stores":
        return None  # takyctl is a program of its own, and nobody else opens the store while the server is stopped
    if LAYER[own] == 3 and LAYER[other] == 3 and own not in SETTINGS and not (own in FRONT and other in SETTINGS):
        return "doors never import each other, and back doors get values, not settings"
    return None


def circles(imports: list[Import]) -> list[str]:
    """Find parts that need each other at run time, directly or through others."""
    needs: dict[str, set[str]] = {}
    for wanted in imports:
        own, other = part_of(wanted.importer), part_of(wanted.imported)
        if wanted.at_run_time and own in LAYER and other in LAYER:
            own, other = own.split(".")[0], other.split(".")[0]
            if own != other:
                needs.setdefault(own, set()).add(other)
    found = []
    for start in sorted(needs):
        reached, todo = set[str](), [start]
        while todo:
            new = needs.get(todo.pop(), set()) - reached
            reached |= new
            todo += new
        if start in reached:
            found.append(start)
    return found


def our_imports() -> list[Import]:
    """Read the imports of every module that we install."""
    found: list[Import] = []
    for path in sorted([*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / "twisted").rglob("*.py")]):
        names = path.relative_to(ROOT).with_suffix("").parts
        is_package = names[-1] == "__init__"
        module = ".".join(names[:-1] if is_package else names)
        found += imports_in(path.read_text("utf-8"), module, is_package=is_package)
    return found


class LayerTests(SynchronousTestCase):
    def test_imports_point_down(self) -> None:
        """Whoever reads a part need not read what stands above or beside it."""
        imports = our_imports()
        self.assertIn("twisted.plugins.taky_plugin", {wanted.importer for wanted in imports})
        wrong = [f"{wanted}: {rule}" for wanted in imports if (rule := broken_rule(wanted))]
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def test_no_circles(self) -> None:
        """No two parts need each other."""
        found = circles(our_imports())
        self.assertEqual(found, [], f"these need themselves in a circle: {', '.join(found)}")


class CheckerTests(SynchronousTestCase):
    def rules(self, module: str, source: str) -> list[str]:
        """Say which rules a module with a name and a text would break."""
        return [rule for wanted in imports_in(source, module) if (rule := broken_rule(wanted))]

    def assert_wrong(self, module: str, source: str, words: str) -> None:
        """The source breaks one rule, and the message says which."""
        (rule,) = self.rules(module, source)
        self.assertIn(words, rule)

    def test_pure(self) -> None:
        """Layer 1 with Twisted, or with what is ours and not cot, is found."""
        self.assert_wrong("taky_twisted.cot.event", "from twisted.logger import Logger", "no Twisted")
        self.assert_wrong("taky_twisted.takproto.framing", "import twisted", "no Twisted")
        self.assert_wrong("taky_twisted.cot.event", "from taky_twisted.takproto import framing", "nothing but itself")
        self.assert_wrong("taky_twisted.takproto.xml", "import taky_twisted.routing.router", "nothing but cot")
        self.assert_wrong("taky_twisted.takproto.xml", "from taky_twisted import interfaces", "nothing but cot")
        self.assert_wrong("taky_twisted.takproto.xml", "import taky_twisted", "nothing of ours")
        self.assertEqual(self.rules("taky_twisted.takproto.xml", "from taky_twisted.cot.event import Event"), [])

    def test_down(self) -> None:
        """The domain with a door, or anybody with tap, is found; what points down is right."""
        self.assert_wrong("taky_twisted.routing.router", "from taky_twisted.stores import sqlite", "point down")
        self.assert_wrong("taky_twisted.routing.router", "from taky_twisted.config import Settings", "point down")
        self.assert_wrong("taky_twisted.interfaces", "from taky_twisted.streaming import tcp", "point down")
        self.assert_wrong("taky_twisted.streaming.tcp", "from taky_twisted.server import Server", "point down")
        self.assert_wrong("taky_twisted.cli.taky", "from taky_twisted import tap", "imported by nobody")
        self.assert_wrong("taky_twisted.server", "from taky_twisted import tap", "imported by nobody")
        self.assert_wrong("twisted.plugins.taky_plugin", "import taky_twisted.tap", "imported by nobody")
        self.assert_wrong("twisted.plugins.taky_plugin", "import taky_twisted.config", "nothing heavy")
        self.assertEqual(self.rules("taky_twisted.routing.router", "from taky_twisted.config.limits import Limits"), [])
        self.assertEqual(self.rules("taky_twisted.server", "from taky_twisted.streaming import tcp"), [])
        self.assertEqual(self.rules("taky_twisted.tap", "from taky_twisted.stores.sqlite import Store"), [])
        self.assertEqual(self.rules("taky_twisted.streaming.tcp", "from taky_twisted.routing import router"), [])
        self.assertEqual(self.rules("taky_twisted.routing.router", "from taky_twisted.identity import principal"), [])

    def test_doors(self) -> None:
        """A door with another door is found."""
        self.assert_wrong("taky_twisted.streaming.tcp", "from taky_twisted.stores import sqlite", "never import each")
        self.assert_wrong("taky_twisted.stores.sqlite", "from taky_twisted.bus import envelope", "never import each")
        self.assert_wrong("taky_twisted.stores.sqlite", "from taky_twisted.config import Settings", "values")
        self.assert_wrong("taky_twisted.config", "from taky_twisted.streaming import tcp", "open no door")
        self.assert_wrong("taky_twisted.admin.commands", "from taky_twisted.stores import sqlite", "never import each")
        self.assertEqual(self.rules("taky_twisted.cli.users", "from taky_twisted.stores import at_rest"), [])
        self.assertEqual(self.rules("taky_twisted.streaming.tcp", "from taky_twisted.config import Limits"), [])

    def test_reactor(self) -> None:
        """The global reactor anywhere but in tap is found, however it is spelled and wherever it stands."""
        for source in (
            "from twisted.internet import reactor",
            "from twisted.internet import defer, reactor as clock",
            "import twisted.internet.reactor",
            "def f():\n    from twisted.internet import reactor",
        ):
            self.assert_wrong("taky_twisted.streaming.tcp", source, "only tap.py")
            self.assertEqual(self.rules("taky_twisted.tap", source), [])

    def test_relative(self) -> None:
        """A relative import is read as what it means."""
        self.assert_wrong("taky_twisted.streaming.tcp", "from ..stores import sqlite", "never import each")
        (wanted,) = imports_in("from . import router", "taky_twisted.routing", is_package=True)
        self.assertEqual(wanted.imported, "taky_twisted.routing.router")
        (wanted,) = imports_in("from .router import Router", "taky_twisted.routing.service")
        self.assertEqual(wanted.imported, "taky_twisted.routing.router.Router")

    def test_new_part(self) -> None:
        """A package that nobody has given a layer is found."""
        self.assert_wrong("taky_twisted.utils.text", "import os", "no layer")

    def test_type_checking(self) -> None:
        """An import for the type checker counts for the direction, not for circles."""
        source = "if TYPE_CHECKING:\n    from taky_twisted.stores import sqlite\nelse:\n    import os"
        first, second = imports_in(source, "taky_twisted.routing.router")
        self.assertEqual((first.at_run_time, second.at_run_time), (False, True))
        self.assertIn("point down", broken_rule(first) or "")

    def test_circle(self) -> None:
        """Parts that need each other at run time are found, also through a third."""
        pairs = [("identity", "routing"), ("routing", "missions"), ("missions", "identity"), ("stores", "routing")]
        imports = [Import(f"taky_twisted.{a}.x", f"taky_twisted.{b}.y", 1, True) for a, b in pairs]
        self.assertEqual(circles(imports), ["identity", "missions", "routing"])
        self.assertEqual(circles(imports[:2]), [])
        late = [*imports[:2], Import("taky_twisted.missions.x", "taky_twisted.identity.y", 1, False)]
        self.assertEqual(circles(late), [])
