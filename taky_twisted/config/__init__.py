"""Read ``taky.conf``: typed, validated settings; every key has a default, a unit and a check.

::

    tap.py --> load --> conf_file   the INI file, its sections and keys, errors that name them
               |  `---> values      one text -> one value; the command line options use the same parsers
               v
            Settings (settings.py), with Limits (limits.py) and SslSettings

Nothing here looks at any file but ``taky.conf``, and nothing imports Twisted.
"""

from __future__ import annotations

from taky_twisted.config.limits import LIMITS, Limit, Limits, limit_options, parse_limit
from taky_twisted.config.settings import Settings, SslSettings
from taky_twisted.config.taky_conf import load
from taky_twisted.config.values import (
    ConfigError,
    MulticastSpec,
    RedisSettings,
    parse_address,
    parse_boolean,
    parse_group_names,
    parse_host,
    parse_log_format,
    parse_multicast,
    parse_networks,
    parse_node_id,
    parse_port,
    parse_redis_db,
    parse_redis_endpoint,
    parse_size,
    parse_store,
    parse_tak_protocol,
    parse_url,
    parse_worker,
    parse_workers,
    without_password,
)

__all__ = [
    "LIMITS",
    "ConfigError",
    "Limit",
    "Limits",
    "MulticastSpec",
    "RedisSettings",
    "Settings",
    "SslSettings",
    "limit_options",
    "load",
    "parse_address",
    "parse_boolean",
    "parse_group_names",
    "parse_host",
    "parse_limit",
    "parse_log_format",
    "parse_multicast",
    "parse_networks",
    "parse_node_id",
    "parse_port",
    "parse_redis_db",
    "parse_redis_endpoint",
    "parse_size",
    "parse_store",
    "parse_tak_protocol",
    "parse_url",
    "parse_worker",
    "parse_workers",
    "without_password",
]
