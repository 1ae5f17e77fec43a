"""``python -m bench``: each scenario, in turns, against this server and another one."""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from . import certificates, proc, report
from .jobs import Job, Outcome
from .nodes import make_server
from .report import OURS, Result
from .scenarios import SCENARIOS, TCP, TLS, Scenario, chosen
from .servers import Server, ServerFailed, Side, build_limit, install_taky

ROOT = Path(__file__).resolve().parent.parent
SHORT_STALL_SECONDS = 3
SHORT_NODES, SHORT_NODES_SECONDS = 2, 1.0
MAX_NODES = 16


@dataclass
class Run:
    """Everything that is run at one call."""

    folder: Path
    sides: list[Side]
    short: bool
    rounds: int
    results: list[Result] = field(default_factory=list)
    _shared: dict[tuple[str, str], Server] = field(default_factory=dict)

    def scenario(self, scenario: Scenario, over: str) -> None:
        """Run one scenario over TCP or TLS, in turns: ours, theirs, ours, theirs."""
        sides = [
            side
            for side in self.sides
            if scenario.is_for(taky=side.is_taky, limit=side.limit is not None, nodes=side.nodes > 0)
        ]
        rounds = min(self.rounds, scenario.rounds or self.rounds)
        for number in range(1, rounds + 1):
            for side in sides:
                outcome = self._one(scenario, over, side, number)
                self.results.append(Result(scenario.name, over, side.name, number, outcome.figures, outcome.wrong))
                _progress(self.results[-1], rounds)

    def stop(self) -> None:
        """Stop the servers that several scenarios shared."""
        for server in self._shared.values():
            server.stop()

    def _one(self, scenario: Scenario, over: str, side: Side, number: int) -> Outcome:
        size = scenario.sized(over, short=self.short, against_taky=side.is_taky)
        if self.short and side.nodes:
            size |= {"seconds": SHORT_NODES_SECONDS}
        with self._server(scenario, over, side, number) as server:
            job = Job(
                scenario.name,
                size,
                server.ports,
                server.pids,
                secrets.token_hex(4),
                server.http_port,
                str(server.certificates) if server.certificates is not None else "",
                exact=side.checkout is not None,
                redis_pid=server.redis_pid,
                metrics_port=server.metrics_port,
            )
            outcome = self._generate(scenario, server, job)
            outcome.figures.setdefault("startup_s", server.startup_seconds)
            if scenario.restarted and not side.is_taky and not self.short and not outcome.wrong:
                server.stop()
                server.start()
                again = replace(
                    job, size=size | {"publish": 0}, ports=server.ports, http_port=server.http_port, pids=server.pids
                )
                second = self._generate(scenario, server, again)
                outcome.figures |= {f"restarted_{name}": value for name, value in second.figures.items()}
                outcome.figures["restarted_startup_s"] = server.startup_seconds
                outcome.wrong += [f"after a restart: {wrong}" for wrong in second.wrong]
        return outcome

    @contextlib.contextmanager
    def _server(self, scenario: Scenario, over: str, side: Side, number: int) -> Iterator[Server]:
        """Start a server for one run; the short form has one for all of them, to be quick."""
        if self.short and (over, side.name) in self._shared:
            yield self._shared[over, side.name]
            return
        keys = self.folder / "keys" if over == TLS else None
        name = f"{side.name}-{over}" if self.short else f"{scenario.name}-{over}-{side.name}-{number}"
        server = make_server(side, self.folder / name, keys, scenario.counting or self.short)
        server.start()
        if self.short:
            self._shared[over, side.name] = server
            yield server
            return
        try:
            yield server
        finally:
            server.stop()

    def _generate(self, scenario: Scenario, server: Server, job: Job) -> Outcome:
        """Let a process of its own be the clients."""
        limit = scenario.seconds + sum(job.size.get(name, 0) for name in ("warm", "base", "settle", "seconds"))
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench.generator"],
                input=json.dumps(asdict(job)),
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome(wrong=[f"not done after {limit:g} s"])
        if not server.pid:
            return Outcome(wrong=[f"the server ended; its last words:\n{server.log()}"])
        if done.returncode:
            return Outcome(wrong=[f"the generator ended with status {done.returncode}"])
        return Outcome(**json.loads(done.stdout))


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; 1 if this server did anything wrong, however slow it was."""
    options = _options().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that servers are stopped
    if options.table is not None:
        try:
            content = json.loads(options.table.read_text())
        except (OSError, ValueError) as error:
            print(f"bench: --table={options.table} is no file that --json made: {error}", file=sys.stderr)
            return 2
        print(report.as_rest(report.tables(report.from_json(content)), content["machine"]))
        return 0
    overs = {"both": (TCP, TLS), TCP: (TCP,), TLS: (TLS,)}[options.over]
    machine = proc.machine() | {"commit": _commit()}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "keys").mkdir()
        certificates.write(folder / "keys")
        try:
            run = Run(folder, _sides(options, folder), options.short, 1 if options.short else options.rounds)
        except ServerFailed as failed:
            print(f"bench: {failed}", file=sys.stderr)
            return 2
        try:
            for scenario in chosen(options.only, options.seconds, options.soak_minutes, bool(options.nodes)):
                for over in scenario.short_over if options.short else scenario.over:
                    if over in overs and not (options.short and scenario.short is None):
                        run.scenario(scenario, over)
                        if options.json is not None:
                            content = report.to_json(machine, run.results)
                            options.json.write_text(json.dumps(content, indent=1) + "\n")
        except ServerFailed as failed:
            print(f"bench: {failed}", file=sys.stderr)
            return 2
        finally:
            run.stop()
    print(report.as_text(report.tables(run.results)))
    wrong = report.mistakes(run.results, [side.name for side in run.sides if side.checkout == ROOT])
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--short", action="store_true", help="a minute, small, this server only: right or wrong")
    parser.add_argument("--only", type=_names, default=(), metavar="NAME,...", help=f"of {', '.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run, in turns (default 5)")
    parser.add_argument(
        "--against",
        metavar="WHAT,...",
        help="taky, limit (a C program that only copies bytes), none, or paths of other checkouts (default taky, "
        "with --nodes none)",
    )
    parser.add_argument(
        "--nodes",
        type=_counts,
        default=(),
        metavar="N,...",
        help="also this server as so many nodes joined by a redis-server that is started for it",
    )
    over = parser.add_mutually_exclusive_group()
    for name in (TLS, TCP, "both"):
        over.add_argument(f"--{name}", dest="over", action="store_const", const=name)
    parser.add_argument("--seconds", type=float, help="how long each load is measured (default 4, hz 8)")
    parser.add_argument("--soak-minutes", type=float, metavar="N", help="how long the soak takes (default 15)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here, after each scenario")
    parser.add_argument("--table", type=Path, metavar="FILE", help="run nothing: show such a file as reST")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep taky's environment here for the next time")
    parser.set_defaults(over="both")
    return parser


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return names


def _counts(text: str) -> list[int]:
    counts = [int(count) for count in text.split(",")]
    if not all(1 <= count <= MAX_NODES for count in counts):
        raise argparse.ArgumentTypeError(f"from 1 to {MAX_NODES}, with commas between")
    return counts


def _sides(options: argparse.Namespace, folder: Path) -> list[Side]:
    if options.short:
        return [Side(OURS, ROOT, options=(f"--stall-seconds={SHORT_STALL_SECONDS}",)), _nodes(SHORT_NODES)]
    sides = [Side(OURS, ROOT), *map(_nodes, options.nodes)]
    for what in (options.against or ("none" if options.nodes else "taky")).split(","):
        checkout = Path(what).resolve()
        if what == "taky":
            sides.append(Side("taky", taky=install_taky(options.cache or folder)))
        elif what == "limit":
            sides.append(Side("limit", limit=build_limit(folder)))
        elif (checkout / "taky_twisted").is_dir():
            sides.append(Side(checkout.name if checkout.name != OURS else "other", checkout))
        elif what != "none":
            raise ServerFailed(f"--against={what}: there is no taky_twisted in it; say taky, limit, none or a checkout")
    return sides


def _nodes(count: int) -> Side:
    return Side("1 node" if count == 1 else f"{count} nodes", ROOT, nodes=count)


def _commit() -> str:
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    done = subprocess.run(git, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _progress(result: Result, rounds: int) -> None:
    scenario = SCENARIOS[result.scenario]
    names = scenario.shown or (*scenario.ratios, "p99_ms")
    figures = ", ".join(f"{name} {result.figures[name]:.3g}" for name in dict.fromkeys(names) if name in result.figures)
    wrong = "; ".join(result.wrong)
    line = f"{result.scenario} {result.over} {result.side} {result.round}/{rounds}: {figures}"
    print(line + (f"  WRONG: {wrong}" if wrong else ""), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
