from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.metrics.catalog import METRICS, PROCESS
from taky_twisted.metrics.health import FAULTS
from taky_twisted.metrics.refusals import REASONS
from taky_twisted.routing.tally import KINDS, Tally

DOC = Path(__file__).resolve().parents[2] / "doc"
MANUAL = (DOC / "reference" / "metrics.rst").read_text("utf-8")
ALERTS = DOC / "how-to" / "monitoring" / "taky-alerts.yml"
DASHBOARD = DOC / "how-to" / "monitoring" / "taky-dashboard.json"

_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
EXPOSED = {f"{metric.name}{suffix}" for metric in METRICS for suffix in _SUFFIXES[metric.kind]} | set(PROCESS) | {"up"}


def rows() -> Iterator[list[str]]:
    """Read the tables of the manual, without their heads."""
    for row in re.split(r"\n   \* - ", MANUAL)[1:]:
        cells = [cell.strip() for cell in re.split(r"\n     -", row.partition("\n\n")[0])]
        if cells[0].startswith("``"):
            yield cells


def names_in(expression: str) -> set[str]:
    """Find the metrics in a PromQL expression: what is before a selector, or stands alone."""
    text = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]|\b(by|without) ?\([^)]*\)', " ", expression)
    return {name for name in re.findall(r"\b[a-z][a-z0-9_]*\b(?!\s*\()", text) if "_" in name or name == "up"}


class ManualTests(SynchronousTestCase):
    def test_metrics(self) -> None:
        """The manual has every metric with its kind and labels, and no other."""
        described = {row[0].strip("`"): (row[1], re.findall(r"``(\w+)``", row[2])) for row in rows() if len(row) == 4}
        expected = {metric.name: (metric.kind, list(metric.labels)) for metric in METRICS}
        ours = {name: entry for name, entry in described.items() if name not in PROCESS}
        self.assertEqual(ours, expected)
        self.assertEqual(described.keys() - ours.keys(), set(PROCESS))

    def test_values(self) -> None:
        """The manual names every kind of events, every fault, and every reason that is told apart."""
        text = {row[0].strip("`"): row[-1] for row in rows()}
        wanted = {
            "taky_events_heard_total": (*KINDS, "routed", "refused", "unreadable"),
            "taky_events_dropped_total": ("thinned", *Tally().waited),
            "taky_clients_closed_total": tuple(Tally().closed),
            "taky_tls_handshakes_total": ("ok", *REASONS["tls"]),
            "taky_logins_failed_total": REASONS["login"],
            "taky_connections_refused_total": ("tls_on_plain_port", "proxy"),
        }
        for name, values in wanted.items():
            for value in values:
                self.assertIn(f"``{value}``", text[name], name)
        self.assertEqual([row[0].strip("`") for row in rows() if len(row) == 3], list(FAULTS))

    def test_names(self) -> None:
        """Names are as Prometheus wants them: ours, with their units, counters with _total."""
        for metric in METRICS:
            self.assertRegex(metric.name, r"^taky_[a-z_]+$")
            self.assertEqual(metric.name.endswith("_total"), metric.kind == "counter", metric.name)
            self.assertTrue(metric.says.endswith("."), metric.name)
        self.assertEqual(len({metric.name for metric in METRICS}), len(METRICS))


class AlertsTests(SynchronousTestCase):
    def test_rules(self) -> None:
        """Each alert is of a metric that there is, says how grave it is, and what to do."""
        (group,) = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
        names = [rule["alert"] for rule in group["rules"]]
        self.assertGreater(len(names), 10)
        self.assertEqual(len(set(names)), len(names))
        for rule in group["rules"]:
            used = names_in(rule["expr"])
            self.assertTrue(used, rule["alert"])
            # Prometheus asks once a minute if it is not told otherwise, and a rate needs two answers.
            for minutes in re.findall(r"\[(.*?)\]", rule["expr"]):
                self.assertGreaterEqual(int(minutes.removesuffix("m")), 4, rule["alert"])
            self.assertEqual(used - EXPOSED, set(), rule["alert"])
            self.assertIn(rule["labels"]["severity"], ("critical", "warning", "info"))
            self.assertEqual(sorted(rule["annotations"]), ["description", "summary"])

    def test_promtool(self) -> None:
        """Prometheus' own checker takes the rules, where it is installed."""
        promtool = shutil.which("promtool")
        if promtool is not None:
            done = subprocess.run(
                [promtool, "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_names_in(self) -> None:
        """Metrics in expressions are found, and what only looks like one is not taken for one."""
        expression = (
            'sum by (a_label) (rate(taky_x_total{b_label="c_d"}[5m])) / up > 0 and on (e) time() - taky_y_seconds'
        )
        self.assertEqual(names_in(expression), {"taky_x_total", "up", "taky_y_seconds"})


class DashboardTests(SynchronousTestCase):
    def panels(self) -> list[dict[str, Any]]:
        """Read the panels of the dashboard."""
        panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
        return panels

    def test_panels(self) -> None:
        """Each panel asks for metrics that there are, of the server that is chosen, and lies over no other."""
        panels = self.panels()
        self.assertGreater(len(panels), 15)
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken: set[tuple[int, int]] = set()
        for panel in panels:
            for target in panel["targets"]:
                used = names_in(target["expr"])
                self.assertTrue(used, panel["title"])
                self.assertEqual(used - EXPOSED, set(), panel["title"])
                self.assertIn('instance=~"$instance"', target["expr"])
                # What is shown as one number is that of now: the last one in the time that is looked at would go on to
                # be shown when the server is gone.
                self.assertEqual(target.get("instant", False), panel["type"] == "stat", panel["title"])
            at = panel["gridPos"]
            self.assertLessEqual(at["x"] + at["w"], 24)
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertEqual(taken & cells, set(), panel["title"])
            taken |= cells

    def test_portable(self) -> None:
        """It belongs to no Prometheus in particular: whoever imports it chooses one."""
        board = json.loads(DASHBOARD.read_text("utf-8"))
        self.assertEqual([each["name"] for each in board["templating"]["list"]], ["datasource", "instance"])
        self.assertEqual({panel["datasource"]["uid"] for panel in self.panels()}, {"${datasource}"})
        self.assertNotIn("id", board)
