"""Which client connects where."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from bench.crowd import node_of


class NodeOfTests(SynchronousTestCase):
    def test_even(self) -> None:
        """Each node has as many clients as the others, and each client the same node whenever it is asked for."""
        for nodes in (1, 2, 3, 4):
            places = [node_of(index, nodes) for index in range(12 * nodes)]
            self.assertEqual(Counter(places), dict.fromkeys(range(nodes), 12))
            self.assertEqual([node_of(index, nodes) for index in range(12 * nodes)], places)

    def test_no_pattern(self) -> None:
        """Those who talk to each other in ``direct`` are on the same node about as often as chance would have it."""
        for nodes in (2, 4):
            together = sum(node_of(index, nodes) == node_of(index + 50, nodes) for index in range(50))
            self.assertTrue(0.5 / nodes < together / 50 < 2 / nodes, f"{together} of 50 with {nodes} nodes")
