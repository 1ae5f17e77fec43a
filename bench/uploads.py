"""Large files go up while clients talk: what that does to the clients, and to the server's memory."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path

from . import channels, proc
from .channels import HOST
from .jobs import Job, Outcome
from .loads import gather, position_sender
from .talk import Meter, Talk

CHUNK_BYTES = 64 << 10
BOUNDARY = "----bench"
MEGA = 1_000_000


def uploads(job: Job) -> Outcome:
    """First only the clients talk, then some processes upload a file each at the same time."""
    outcome, crowd, size = Outcome(), job.crowd(), job.size
    tally = gather(job, crowd)
    talk = Talk(
        crowd, tally, job.run, [position_sender(client, tally, crowd) for client in crowd.clients], rate=size["rate"]
    )
    talk.go_on(size["warm"])
    meter = Meter(job, talk, tally)
    talk.go_on(size["base"])
    outcome.figures = {f"base_{name}": value for name, value in meter.figures().items() if name.endswith("_ms")}

    before = peak = proc.memory_kb(job.pid)
    begin = time.monotonic()
    command = [sys.executable, "-m", "bench.uploads", str(job.http_port), str(job.count("megabytes")), job.certificates]
    running = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
        for number in range(job.count("uploads"))
    ]
    meter = Meter(job, talk, tally)

    def each_turn(now: float) -> None:
        nonlocal peak
        peak = max(peak, proc.memory_kb(job.pid))

    while any(process.poll() is None for process in running) and time.monotonic() - begin < size["seconds"]:
        talk.go_on(0.25, each_turn)
    seconds = time.monotonic() - begin
    outcome.figures |= {name: value for name, value in meter.figures().items() if name.endswith("_ms")}
    talk.drain()
    for number, process in enumerate(running):
        process.kill()
        said, _ = process.communicate()
        if said.strip() != "stored":
            outcome.wrong.append(f"upload {number} of {len(running)}: {said.strip() or 'not done in time'}")
    outcome.figures["grown_mb"] = (peak - before) / 1024
    outcome.figures["mb_per_s"] = job.count("megabytes") * len(running) / seconds
    outcome.figures["rss_mb"] = proc.memory_kb(job.pid) / 1024
    outcome.judge(job, crowd, tally)
    crowd.close()
    return outcome


def upload(port: int, megabytes: int, certificates: str, number: int) -> str:
    """Upload a file as ATAK does, and compare what the server says of it; ``stored`` if all is well."""
    block = hashlib.sha256(b"%d" % number).digest() * (MEGA // 32)
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="assetfile"; filename="large-{number}.zip"\r\n'
        "Content-Type: application/x-zip-compressed\r\n\r\n"
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    context = channels.client_context(Path(certificates)) if certificates else None
    connection = (
        http.client.HTTPSConnection(HOST, port, timeout=120, context=_quiet(context))
        if context is not None
        else http.client.HTTPConnection(HOST, port, timeout=120)
    )
    connection.putrequest("POST", f"/Marti/sync/missionupload?filename=large-{number}.zip&creatorUid=bench-{number}")
    connection.putheader("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
    connection.putheader("Content-Length", str(len(head) + megabytes * MEGA + len(tail)))
    connection.endheaders(head)
    digest = hashlib.sha256()
    for _ in range(megabytes):
        digest.update(block)
        for at in range(0, MEGA, CHUNK_BYTES):
            connection.send(block[at : at + CHUNK_BYTES])
    connection.send(tail)
    answer = connection.getresponse()
    said = answer.read(4096).decode("utf-8", "replace")
    if answer.status != 200 or not said.endswith(f"/Marti/sync/content?hash={digest.hexdigest()}"):
        return f"{answer.status} {said}"
    return "stored"


def _quiet(context: ssl.SSLContext) -> ssl.SSLContext:
    context.check_hostname = False  # the clients of the loads do not look at it either
    return context


if __name__ == "__main__":
    os.nice(5)  # the clients of the loads measure time
    print(upload(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
