"""Every metric of ours: its name, what it says, and its labels, all of whose values are from small sets.

``doc/reference/metrics.rst`` lists them for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Metric:
    """What is known of a metric, but for its value."""

    name: str
    """As Prometheus shows it; a counter's ends with ``_total``."""
    kind: Literal["counter", "gauge", "histogram"]
    says: str
    labels: tuple[str, ...] = ()


def _counter(name: str, says: str, *labels: str) -> Metric:
    return Metric(name, "counter", says, labels)


def _gauge(name: str, says: str, *labels: str) -> Metric:
    return Metric(name, "gauge", says, labels)


BUILD = _gauge("taky_build_info", "Always 1; the labels say what runs.", "version", "python", "twisted")

CLIENTS = _gauge("taky_clients", "Connected clients, by door and by how they are written to.", "door", "protocol")
FULL = _gauge("taky_clients_full", "Clients whose transport takes no more at the moment.")
BACKLOG = _gauge("taky_backlog_bytes", "What waits for slow clients, beyond what their transports hold.")
HANDSHAKES = _gauge("taky_tls_handshakes_pending", "TLS handshakes on CoT doors that have begun and not ended.")
HTTP_CONNECTIONS = _gauge("taky_http_connections", "Open HTTP connections of the Marti API.")
REFUSED = _counter("taky_connections_refused_total", "Connections that were not taken in.", "reason")
TLS = _counter("taky_tls_handshakes_total", "TLS handshakes that are over: ok, or why not.", "result")
LOGINS_FAILED = _counter("taky_logins_failed_total", "Passwords, tokens and invites that did not count.", "reason")
FAILED = _counter("taky_failed_attempts_total", "Whatever was refused to anybody (takyctl doctor shows whom).")

HEARD = _counter(
    "taky_events_heard_total", "Events that clients said, by kind, and what became of them.", "kind", "outcome"
)
DELIVERED = _counter("taky_events_delivered_total", "Events that were handed over, one for each who hears it.")
DROPPED = _counter("taky_events_dropped_total", "Events that a slow client did not get.", "reason")
CLOSED = _counter("taky_clients_closed_total", "Clients that were closed because of how they read.", "reason")
LATENCY = Metric(
    "taky_delivery_seconds",
    "histogram",
    "Time from the arrival of what was said until it was handed to the transports of all who hear it; one reactor turn"
    " in eight is measured, from the first event in it.",
)
CONTACTS = _gauge("taky_contacts", "Contacts that are known.", "state")
ITEMS = _gauge("taky_items", "Items on the map that newcomers are shown.")
EMERGENCIES = _gauge("taky_emergencies", "Emergencies that nobody has canceled.")
CHATS = _gauge("taky_missed_chats", "Chats that wait for who is not connected.")

STORE_WRITABLE = _gauge("taky_store_writable", "1 if the last attempt to write the store came off, else 0.")
STORE_PENDING = _gauge("taky_store_pending_changes", "Changes that are not written yet.")
STORE_WRITTEN = _gauge("taky_store_last_write_timestamp_seconds", "When the store was written last; 0: not yet.")
HISTORY_KEPT = _gauge("taky_history_kept", "1 if all of history is kept, else 0; nothing if there is none.")
HISTORY_QUEUED = _gauge("taky_history_queued_bytes", "What of history waits for the disk.")
HISTORY_LOST = _counter("taky_history_lost_events_total", "Events that are missing in history.")

BUS_UP = _gauge("taky_bus_up", "1 if words get through to other nodes, else 0; nothing if there is one node.")
BUS_NODES = _gauge("taky_bus_nodes", "Other nodes that are there.")
BUS_WORDS = _counter("taky_bus_words_total", "Words between nodes, by what became of them.", "direction")

HTTP_REQUESTS = _counter("taky_http_requests_total", "Requests to the Marti API that were answered.", "route", "status")

LAG = _gauge("taky_reactor_lag_seconds", "How late the reactor was when it was measured last.")
WORST_LAG = _gauge("taky_reactor_lag_worst_seconds", "How late it was at worst in the last 30 seconds.")
CLOCK_JUMPS = _counter("taky_clock_jumps_total", "How often somebody has set the system's clock.")
DOORS_SHUT = _gauge("taky_doors_shut", "Doors that take nobody in although they should.")
CERTIFICATE_END = _gauge(
    "taky_certificate_expiry_timestamp_seconds", "When the certificate that a TLS door shows ends.", "door"
)
FAULT = _gauge("taky_fault", "1 as long as /health tells of this fault, else 0.", "fault")
SUPPRESSED = _counter("taky_log_lines_left_out_total", "Log lines that were left out, because there were too many.")

METRICS = tuple(value for value in globals().values() if isinstance(value, Metric))
"""All of them. The process' own (``process_...``, ``python_gc_...``) are the Prometheus client's: `PROCESS`."""

PROCESS = (
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
    "python_gc_collections_total",
)
"""What ``prometheus_client`` says of the process, on Linux."""
