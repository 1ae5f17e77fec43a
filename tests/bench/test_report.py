"""What is said of the figures."""

from __future__ import annotations

import json

from twisted.trial.unittest import SynchronousTestCase

from bench.comings import slope
from bench.report import Result, as_rest, as_text, from_json, mistakes, ratios, tables, to_json
from bench.scenarios import SCENARIOS, chosen


def result(side: str, number: int, cost: float, *, scenario: str = "w1", wrong: tuple[str, ...] = ()) -> Result:
    """Make a run of a load."""
    figures = {"cpu_us_per_delivered": cost, "lost": 1.0 if wrong else 0.0, "duplicated": 0.0, "reordered": 0.0}
    return Result(scenario, "tcp", side, number, figures, list(wrong))


class ReportTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Three rounds of both, with one mistake of each."""
        self.results = [
            result("ours", 1, 5),
            result("taky", 1, 20),
            result("ours", 2, 4, wrong=("1 lost",)),
            result("taky", 2, 20, wrong=("2 lost",)),
            result("ours", 3, 5),
            result("taky", 3, 30),
        ]

    def test_ratios(self) -> None:
        """Ratios are those of pairs in one round, with their spread; a round without a pair does not count."""
        (ratio,) = ratios([*self.results, result("ours", 4, 1)])
        self.assertEqual(ratio.pairs, [4.0, 5.0, 6.0])
        self.assertEqual((ratio.least, ratio.middle, ratio.most), (4.0, 5.0, 6.0))
        self.assertEqual(str(ratio), "5 (4 to 6)")
        self.assertEqual(ratios([result("ours", 1, 5)]), [])

    def test_several_others(self) -> None:
        """Each other side is compared for itself; who is not taky is named."""
        found = ratios([*self.results, result("limit", 1, 4), result("limit", 2, 4), result("limit", 3, 5)])
        self.assertEqual([str(ratio) for ratio in found], ["5 (4 to 6)", "limit 1 (0.80 to 1)"])

    def test_mistakes(self) -> None:
        """Only what this server did wrong makes the run fail."""
        self.assertEqual(mistakes(self.results), ["w1 over tcp, round 2: 1 lost"])

    def test_mistakes_of_nodes(self) -> None:
        """A server of several nodes is this one too, and it is said how many they were."""
        results = [*self.results, result("2 nodes", 1, 9, wrong=("3 lost",))]
        self.assertEqual(
            mistakes(results, ["ours", "2 nodes"]),
            ["w1 over tcp, round 2: 1 lost", "w1 over tcp, round 1: 2 nodes: 3 lost"],
        )

    def test_tables(self) -> None:
        """Tables have the middle of each figure and the sum of mistakes, as text and as reST, also from a file."""
        storm = Result("storm", "tls", "ours", 1, {"cpu_us_per_connect": 1234.5}, [])
        made = to_json({"cpu": "abacus"}, [*self.results, storm])
        found = tables(from_json(json.loads(json.dumps(made))))
        (_, loads), (_, others) = found
        self.assertEqual(
            [row[:5] for row in loads[1:]], [["w1", "TCP", "ours", "", "5"], ["w1", "TCP", "taky", "", "20"]]
        )
        self.assertEqual(loads[1][8:], ["1/0/0 !", "", "5 (4 to 6)"])
        self.assertEqual(others, [["load", "over", "figure", "ours", "taky", "times less"],
                                  ["storm", "TLS", "cpu_us_per_connect", "1234", "", ""]])  # fmt: skip
        self.assertIn("5 (4 to 6)", as_text(found))
        self.assertIn("cpu abacus", as_rest(found, made["machine"]))
        self.assertIn("   * - w1\n     - TCP\n     - ours\n", as_rest(found, made["machine"]))

    def test_nodes(self) -> None:
        """Where there are nodes, the busiest one and Redis have a column each; who has none has an empty cell."""
        nodes = {"cpu_us_per_event": 30.0, "busiest_us_per_event": 16.0, "redis_us_per_event": 2.0}
        found = tables([result("ours", 1, 5), Result("w1", "tcp", "2 nodes", 1, nodes, [])])
        ((_, (head, ours, theirs)),) = found
        self.assertEqual(head[3:7], ["us/event", "busiest node", "redis", "us/delivered"])
        self.assertEqual((ours[3:7], theirs[3:7]), (["", "", "", "5"], ["30", "16", "2", ""]))

    def test_slope(self) -> None:
        """Memory that grows by a line has its slope; noise around it does not hide it."""
        self.assertEqual(slope([]), 0.0)
        self.assertEqual(slope([(1.0, 1.0), (1.0, 2.0)]), 0.0)
        self.assertAlmostEqual(slope([(x, 100 + 3 * x + (-1) ** x) for x in range(1000)]), 3, places=3)


class SizeTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        """The short form and taky get smaller sizes; how long is measured can be said."""
        connections = SCENARIOS["connections"]
        self.assertEqual(connections.sized("tcp", short=False, against_taky=False)["clients"], 5000)
        self.assertEqual(connections.sized("tls", short=False, against_taky=False)["clients"], 1000)
        self.assertEqual(connections.sized("tls", short=True, against_taky=False)["clients"], 100)
        self.assertEqual(SCENARIOS["idle"].sized("tcp", short=False, against_taky=True)["clients"], 900)

    def test_nodes(self) -> None:
        """Of all scenarios those are left that several nodes are asked to do; a limit or taky are asked for others."""
        self.assertEqual(
            [scenario.name for scenario in chosen((), nodes=True)], ["w1", "flat", "hz", "direct", "mixed"]
        )
        self.assertTrue(SCENARIOS["flat"].is_for(nodes=True))
        self.assertFalse(SCENARIOS["flat"].is_for(limit=True))
        self.assertFalse(SCENARIOS["storm"].is_for(nodes=True))
        self.assertFalse(SCENARIOS["flood"].is_for(taky=True))

    def test_chosen(self) -> None:
        """Seconds are for loads, minutes for the soak, of which the beginning is not measured."""
        by_name = {scenario.name: scenario.size for scenario in chosen((), 1.5, 10)}
        self.assertEqual(list(by_name), list(SCENARIOS))
        self.assertEqual(by_name["w1"]["seconds"], 1.5)
        self.assertEqual(by_name["slow"]["seconds"], SCENARIOS["slow"].size["seconds"])
        self.assertEqual((by_name["soak"]["settle"], by_name["soak"]["seconds"]), (120, 480))
        (soak,) = chosen(["soak"], None, 1)
        self.assertEqual((soak.size["settle"], soak.size["seconds"]), (30, 30))
