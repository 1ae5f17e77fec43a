"""What came out: a table for people, JSON for programs, and the same table as reST for the manual."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .scenarios import SCENARIOS, Scenario

OURS, TAKY = "ours", "taky"
_WRONG = ("lost", "duplicated", "reordered", "unexpected", "disconnected")
_LOAD_COLUMNS = (
    "load",
    "over",
    "server",
    "us/event",
    "us/delivered",
    "p50 ms",
    "p99 ms",
    "max ms",
    "lost/dup/reordered",
    "RSS MB",
    "times less",
)

_NODES_COLUMNS = ("busiest node", "redis")
_NODES_FIGURES = ("busiest_us_per_event", "redis_us_per_event")

Table = tuple[str, list[list[str]]]
"""A title, and rows of which the first is the head."""


@dataclass(frozen=True)
class Result:
    """One run."""

    scenario: str
    over: str
    side: str
    round: int
    figures: dict[str, float]
    wrong: list[str]


@dataclass(frozen=True)
class Ratio:
    """How many times less we need: of each pair in one round, and of those the least, the middle and the most."""

    scenario: str
    over: str
    side: str
    """With whom we are compared."""
    figure: str
    pairs: list[float]
    least: float
    middle: float
    most: float

    def __str__(self) -> str:
        name = "" if self.side == TAKY else f"{self.side} "
        return f"{name}{_short(self.middle)} ({_short(self.least)} to {_short(self.most)})"


def ratios(results: list[Result]) -> list[Ratio]:
    """Compare ours with each other side, round by round."""
    found: list[Ratio] = []
    others = [side for side in _sides(results) if side != OURS]
    for scenario, over in _loads(results):
        ours = {r.round: r.figures for r in _of(results, scenario, over, OURS)}
        for figure in scenario.ratios:
            for side in others:
                theirs = {r.round: r.figures for r in _of(results, scenario, over, side)}
                pairs = [
                    theirs[number][figure] / ours[number][figure]
                    for number in sorted(ours.keys() & theirs.keys())
                    if ours[number].get(figure) and figure in theirs[number]
                ]
                if pairs:
                    found.append(Ratio(scenario.name, over, side, figure, pairs, min(pairs), median(pairs), max(pairs)))
    return found


def to_json(machine: dict[str, Any], results: list[Result]) -> dict[str, Any]:
    """Make what is written to a file."""
    return {
        "machine": machine,
        "results": [asdict(result) for result in results],
        "ratios": [asdict(ratio) for ratio in ratios(results)],
    }


def from_json(content: dict[str, Any]) -> list[Result]:
    """Read back what `to_json` made."""
    return [Result(**result) for result in content["results"]]


def tables(results: list[Result]) -> list[Table]:
    """Arrange everything; of several rounds the middle of each figure, of mistakes the sum."""
    found = ratios(results)
    joined = any("redis_us_per_event" in result.figures for result in results)
    columns = [*_LOAD_COLUMNS[:4], *(_NODES_COLUMNS if joined else ()), *_LOAD_COLUMNS[4:]]
    loads, others = [columns], [["load", "over", "figure", *_sides(results), "times less"]]
    for scenario, over in _loads(results):
        compared = [ratio for ratio in found if (ratio.scenario, ratio.over) == (scenario.name, over)]
        if scenario.shown:
            others += _figure_rows(scenario, over, results, compared)
        else:
            loads += _load_rows(scenario, over, results, compared, joined)
    return [
        (title, rows) for title, rows in (("Clients that say and hear", loads), ("Everything else", others)) if rows[1:]
    ]


def as_text(found: list[Table]) -> str:
    """Align tables for a terminal."""
    lines: list[str] = []
    for title, rows in found:
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines += [title, ""]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines.append("")
    return "\n".join(lines)


def as_rest(found: list[Table], machine: dict[str, Any]) -> str:
    """Spell tables for the manual."""
    where = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [".. Made by: python -m bench --table", "", f"Taken on: {where}.", ""]
    for title, rows in found:
        lines += [f".. list-table:: {title}", "   :header-rows: 1", ""]
        for row in rows:
            lines += [f"   {'* -' if not column else '  -'} {cell}".rstrip() for column, cell in enumerate(row)]
        lines.append("")
    return "\n".join(lines)


def mistakes(results: list[Result], sides: Collection[str] = (OURS,)) -> list[str]:
    """List what was wrong with some sides."""
    return [
        f"{result.scenario} over {result.over}, round {result.round}: "
        f"{'' if result.side == OURS else f'{result.side}: '}{wrong}"
        for result in results
        if result.side in sides
        for wrong in result.wrong
    ]


def _loads(results: list[Result]) -> Iterable[tuple[Scenario, str]]:
    for name, over in dict.fromkeys((result.scenario, result.over) for result in results):
        yield SCENARIOS[name], over


def _sides(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(result.side for result in results))


def _of(results: list[Result], scenario: Scenario, over: str, side: str) -> list[Result]:
    return [r for r in results if (r.scenario, r.over, r.side) == (scenario.name, over, side)]


def _figure(runs: list[Result], name: str, choose: Callable[[list[float]], float] = median) -> str:
    values = [run.figures[name] for run in runs if name in run.figures]
    return _short(choose(values)) if values else ""


def _load_rows(
    scenario: Scenario, over: str, results: list[Result], compared: list[Ratio], joined: bool
) -> list[list[str]]:
    rows = []
    for side in _sides(results):
        runs = _of(results, scenario, over, side)
        if not runs:
            continue
        counts = "/".join(_figure(runs, name, sum) or "?" for name in _WRONG[:3])
        if any(run.wrong for run in runs):
            counts += " !"
        costs = ("cpu_us_per_event", *(_NODES_FIGURES if joined else ()), "cpu_us_per_delivered")
        names = (*costs, "p50_ms", "p99_ms", "max_ms")
        less = "; ".join(
            f"{ratio}" if ratio.figure.startswith("cpu") else f"{ratio.figure.removesuffix('_ms')} {ratio}"
            for ratio in compared
        )
        rows.append(
            [
                scenario.name,
                over.upper(),
                side,
                *(_figure(runs, name) for name in names),
                counts,
                _figure(runs, "rss_mb"),
                less if side == OURS else "",
            ]
        )
    return rows


def _figure_rows(scenario: Scenario, over: str, results: list[Result], compared: list[Ratio]) -> list[list[str]]:
    rows = []
    for name in scenario.shown:
        cells = [_figure(_of(results, scenario, over, side), name) for side in _sides(results)]
        if any(cells):
            less = "; ".join(str(ratio) for ratio in compared if ratio.figure == name)
            rows.append([scenario.name, over.upper(), name, *cells, less])
    return rows


def _short(value: float) -> str:
    """Spell a number with three digits that count."""
    size = abs(value)
    return f"{value:.0f}" if size >= 100 or value == int(value) else f"{value:.1f}" if size >= 10 else f"{value:.2f}"
