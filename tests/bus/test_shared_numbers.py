from __future__ import annotations

import random
from typing import cast

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.bus.shared_numbers import BLOCK, END, ENOUGH, SharedNumbers
from taky_twisted.bus.shared_redis import SharedRedis
from taky_twisted.enterprise_sync.records import HIGH
from tests.bus.memory_redis import MemoryRedis, MemorySharedRedis


class SharedNumbersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.redis = MemoryRedis()
        self.nodes = [MemorySharedRedis(self.redis), MemorySharedRedis(self.redis)]
        self.numbers = [
            SharedNumbers(cast(SharedRedis, node), lambda: 10, random.Random(number))
            for number, node in enumerate(self.nodes)
        ]

    def fill(self, node: int) -> None:
        """Get a block."""
        filling = self.numbers[node].fill()
        self.nodes[node].step()
        self.successResultOf(filling)

    def test_blocks(self) -> None:
        """Numbers count up, above what is used, and no two nodes give the same."""
        self.fill(0)
        self.fill(1)
        taken = [numbers.take() for _ in range(BLOCK) for numbers in self.numbers]
        self.assertEqual(taken[:4], [11, 11 + BLOCK, 12, 12 + BLOCK])
        self.assertEqual(len(set(taken)), 2 * BLOCK)

    def test_ahead(self) -> None:
        """The next block is asked for before one is used up, once."""
        self.fill(0)
        self.nodes[0].asked.clear()
        taken = []
        for _ in range(5 * BLOCK):
            taken.append(self.numbers[0].take())
            if self.nodes[0].waiting:
                self.assertEqual(len(self.nodes[0].waiting), 1)
                self.nodes[0].step()
        self.assertLess(max(taken), HIGH)
        self.assertEqual(len(set(taken)), len(taken))
        self.successResultOf(self.numbers[0].fill())

    def test_away(self) -> None:
        """Without Redis the block is used up, and then numbers are picked at random, which 32 bits can hold."""
        self.fill(0)
        self.nodes[0].away = True
        taken = [self.numbers[0].take() for _ in range(BLOCK + 50)]
        self.assertEqual(taken[:BLOCK], list(range(11, 11 + BLOCK)))
        self.assertTrue(all(HIGH <= number < END for number in taken[BLOCK:]))
        self.assertEqual(len(set(taken)), len(taken))
        self.nodes[0].away = False
        self.numbers[0].take()
        self.nodes[0].step()
        self.assertEqual(self.numbers[0].take(), 11 + BLOCK)

    def test_end(self) -> None:
        """When there are no more numbers to count they are picked at random, too."""
        self.redis.numbers = HIGH - BLOCK
        self.fill(0)
        self.assertGreaterEqual(self.numbers[0].take(), HIGH)
        self.assertGreater(BLOCK, ENOUGH)
