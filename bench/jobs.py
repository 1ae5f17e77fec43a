"""What one run is asked to do, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from . import channels
from .crowd import Crowd
from .events import XML
from .tally import Tally

Size = dict[str, float]
"""How many, how long, how often; which names there are depends on the scenario."""


@dataclass(frozen=True)
class Job:
    """One scenario against one server that runs."""

    scenario: str
    size: Size
    ports: list[int]
    """The server's, one for each of its nodes."""
    pids: list[int]
    """Its processes, in the same order."""
    run: str
    """See `events.mark`."""
    http_port: int = 0
    """Where the server's Marti API is; 0 if it was not asked for."""
    certificates: str = ""
    """Folder with keys; empty for plain TCP."""
    exact: bool = True
    """Whether events must arrive byte for byte as they were said."""
    redis_pid: int = 0
    """What joins the nodes; 0 for a server that is one process."""
    metrics_port: int = 0
    """Where the server counts; 0 if it was not asked for."""

    @property
    def pid(self) -> int:
        """The process of a server that is one."""
        return self.pids[0]

    def crowd(self) -> Crowd:
        """Make the clients' side."""
        context = channels.client_context(Path(self.certificates)) if self.certificates else None
        return Crowd(self.ports, context, self.run, XML)

    def count(self, name: str) -> int:
        """Read a size that is a whole number."""
        return int(self.size[name])


@dataclass
class Outcome:
    """What was measured, and what was wrong."""

    figures: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def judge(self, job: Job, crowd: Crowd, tally: Tally | None = None) -> None:
        """Note everything that should not have happened to clients that read."""
        counts = {"disconnected": len(crowd.disconnected)}
        if tally is not None:
            for name in ("lost", "duplicated", "reordered", "unexpected", "altered"):
                counts[name] = getattr(tally, name)
        self.figures.update(counts)
        self.wrong += [
            f"{count} {name}" for name, count in counts.items() if count and (job.exact or name != "altered")
        ]
        self.wrong += crowd.disconnected[:3]
