"""What Linux says about a process: the CPU that it used, and its memory."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Add up user and system time of all threads, in steps of 10 ms; 0 if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    fields = stat[stat.rindex(")") + 2 :].split()  # the name in parentheses may hold anything
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_kb(pid: int, kind: str = "VmRSS") -> float:
    """Read resident memory in KB, or its peak (``VmHWM``); 0 if there is no such process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) for line in status.splitlines() if line.startswith(f"{kind}:")), 0.0)


def machine() -> dict[str, str | int]:
    """Describe what the figures were taken on."""
    cpu = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count() or 0,
        "memory_kb": int(next((line.split()[1] for line in _lines("/proc/meminfo") if "MemTotal" in line), "0")),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": os.getloadavg()[0].__format__(".2f"),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
