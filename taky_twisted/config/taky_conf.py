"""From ``taky.conf`` to `Settings`: every section and key that there is.

Keys, meanings and defaults are those of taky 0.10; ``doc/reference/configuration.rst`` marks what is new here.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from taky_twisted.config.conf_file import ConfFile
from taky_twisted.config.limits import LIMITS, Limits
from taky_twisted.config.settings import Settings, SslSettings, check_groups
from taky_twisted.config.taky_redis import read_redis
from taky_twisted.config.values import (
    ConfigError,
    parse_address,
    parse_boolean,
    parse_group_names,
    parse_host,
    parse_integer,
    parse_log_format,
    parse_multicast,
    parse_networks,
    parse_node_id,
    parse_port,
    parse_redis_endpoint,
    parse_size,
    parse_store,
    parse_tak_protocol,
    parse_url,
    parse_workers,
)

FILE_NAME = "taky.conf"
SYSTEM_FILE = Path("/etc/taky/taky.conf")
DATA_FOLDER = "taky-data"

_DEFAULT = Settings()


def load(path: str | None = None, cwd: Path = Path("."), system: Path = SYSTEM_FILE) -> Settings:
    """Read the configuration: the named file, else ``./taky.conf``, else the system's, else the defaults.

    Args:
        path: the file that the operator named; it has to be there.
        cwd: where relative names on the command line start.
        system: the file that is read if there is none in ``cwd``.

    Raises:
        ConfigError: the file cannot be used; nothing else is raised, whatever is in it.
    """
    cwd = Path(os.path.abspath(cwd))
    if path is not None:
        try:
            return read_settings(ConfFile.read(Path(os.path.abspath(cwd / path))), cwd)
        except FileNotFoundError as error:
            raise ConfigError(f"{cwd / path}: there is no such file; name another with --config") from error
    for candidate in (cwd / FILE_NAME, system):
        try:
            return read_settings(ConfFile.read(candidate), cwd)
        except FileNotFoundError:
            continue
    return read_settings(ConfFile({}, None, cwd), cwd)


def read_settings(conf: ConfFile, cwd: Path) -> Settings:
    """Ask a file for every key that there is; raises `ConfigError` for the first that is wrong, or unknown."""
    warnings: list[str] = []
    redis = read_redis(conf)
    store = conf.value("taky", "store", partial(parse_store, base=conf.base), None)
    if redis.endpoint:
        if store not in (None, f"redis:{redis.endpoint}"):
            raise conf.bad("taky", "store", "redis names another store; allowed: one of the two")
        store = f"redis:{redis.endpoint}"
    ssl = _ssl(conf, warnings)
    cot_port = conf.value("cot_server", "port", parse_port, None)
    cot_endpoints = conf.lines("cot_server", "endpoints", str)
    if cot_port is not None and cot_endpoints:
        raise conf.bad("cot_server", "port", "cannot stand beside endpoints; allowed: one of the two")
    monitor_ip = conf.value("cot_server", "mon_ip", parse_address, None)
    monitor_port = conf.value("cot_server", "mon_port", parse_port, None)
    monitor_endpoints = conf.lines("cot_server", "monitor_endpoints", str)
    if monitor_ip is not None and monitor_endpoints:
        raise conf.bad("cot_server", "mon_ip", "cannot stand beside monitor_endpoints; allowed: one of the two")
    if monitor_ip is not None and not ssl.enabled:
        warnings.append(
            f"{conf.path}: [cot_server] mon_ip is ignored, because [ssl] is not enabled;"
            " use monitor_endpoints for a monitor without TLS clients"
        )
        monitor_ip = None
    elif monitor_port is not None and monitor_ip is None:
        warnings.append(f"{conf.path}: [cot_server] mon_port opens no monitor without mon_ip")
    multicast = conf.lines("cot_server", "multicast", parse_multicast)
    try:
        check_groups(multicast)
    except ValueError as error:
        raise conf.bad("cot_server", "multicast", str(error)) from error
    settings = Settings(
        path=conf.path,
        hostname=conf.value("taky", "hostname", parse_host, _DEFAULT.hostname),
        node_id=conf.value("taky", "node_id", parse_node_id, _DEFAULT.node_id),
        bind_ip=conf.value("taky", "bind_ip", parse_address, None),
        public_ip=conf.value("taky", "public_ip", parse_host, None),
        data_dir=conf.value("taky", "root_dir", conf.path_of, cwd / DATA_FOLDER),
        store=store,
        redis=redis,
        redis_import_groups=conf.value("taky", "redis_import_groups", parse_group_names, None),
        bus_endpoint=conf.value("taky", "bus", parse_redis_endpoint, None),
        workers=conf.value("taky", "workers", parse_workers, _DEFAULT.workers),
        proxy_from=conf.value("taky", "proxy_from", parse_networks, _DEFAULT.proxy_from),
        cot_port=cot_port,
        cot_endpoints=cot_endpoints,
        monitor_ip=monitor_ip,
        monitor_port=monitor_port or _DEFAULT.monitor_port,
        monitor_endpoints=monitor_endpoints,
        admin_endpoints=conf.lines("taky", "admin_endpoints", str),
        metrics_endpoints=conf.lines("taky", "metrics_endpoints", str),
        log_format=conf.value("taky", "log_format", parse_log_format, _DEFAULT.log_format),
        pin_uid=conf.value("cot_server", "pin_uid", parse_boolean, _DEFAULT.pin_uid),
        udp_port=conf.value("cot_server", "udp_port", parse_port, None),
        multicast=multicast,
        log_cot=conf.value("cot_server", "log_cot", conf.path_of, None),
        log_cot_bytes=conf.value("cot_server", "log_cot_bytes", _log_bytes, _DEFAULT.log_cot_bytes),
        log_cot_files=conf.value("cot_server", "log_cot_files", _log_files, _DEFAULT.log_cot_files),
        max_persist_ttl=conf.value("cot_server", "max_persist_ttl", _seconds, _DEFAULT.max_persist_ttl),
        marti_endpoints=conf.lines("dp_server", "endpoints", str),
        enroll_endpoints=conf.lines("dp_server", "enroll_endpoints", str),
        anonymous_http=conf.value("dp_server", "anonymous_http", parse_boolean, None),
        public_url=conf.value("dp_server", "public_url", parse_url, None),
        upload_path=conf.value("dp_server", "upload_path", conf.path_of, None),
        tak_protocol=conf.value("cot_server", "tak_protocol", parse_tak_protocol, _DEFAULT.tak_protocol),
        tak_protocol_of={
            name: chosen
            for name in conf.keys("tak_protocol")
            if (chosen := conf.value("tak_protocol", name, parse_tak_protocol, None)) is not None
        },
        chat_fallback=conf.value("cot_server", "chat_fallback", parse_boolean, _DEFAULT.chat_fallback),
        ssl=ssl,
        limits=_limits(conf),
    )
    conf.check_unknown()
    warnings += (
        f"{conf.path}: {key}: taken as it stands; unlike taky, %% is two percent signs and %(...)s is no other value"
        for key in conf.interpolated()
    )
    return replace(settings, warnings=tuple(warnings))


def _ssl(conf: ConfFile, warnings: list[str]) -> SslSettings:
    default = _DEFAULT.ssl
    old, name = conf.text("ssl", "server_p12_key"), "server_p12_pw"
    if old is not None:
        if conf.text("ssl", name) is not None:
            raise conf.bad("ssl", "server_p12_key", "is an old name of server_p12_pw; allowed: one of the two")
        warnings.append(f"{conf.path}: [ssl] server_p12_key is an old name; call it server_p12_pw")
        name = "server_p12_key"
    return SslSettings(
        enabled=conf.value("ssl", "enabled", parse_boolean, default.enabled),
        expiry_message=conf.value("ssl", "expiry_message", parse_boolean, default.expiry_message),
        client_cert_required=conf.value("ssl", "client_cert_required", parse_boolean, default.client_cert_required),
        ca=conf.optional("ssl", "ca", conf.path_of, default.ca),
        ca_key=conf.optional("ssl", "ca_key", conf.path_of, default.ca_key),
        server_p12=conf.optional("ssl", "server_p12", conf.path_of, default.server_p12),
        server_p12_pw=conf.optional("ssl", name, str, default.server_p12_pw),
        cert=conf.optional("ssl", "cert", conf.path_of, default.cert),
        key=conf.optional("ssl", "key", conf.path_of, default.key),
        key_pw=conf.optional("ssl", "key_pw", str, None),
        cert_db=conf.optional("ssl", "cert_db", conf.path_of, default.cert_db),
    )


def _limits(conf: ConfFile) -> Limits:
    values = {name: conf.value("limits", name, limit.parse, None) for name, limit in LIMITS.items()}
    try:
        return Limits().replaced({name: value for name, value in values.items() if value is not None})
    except ValueError as error:
        raise conf.wrong(f"[limits] {error}") from error


def _log_bytes(text: str) -> int:
    size = parse_size(text)
    if not 4096 <= size <= 1 << 40:
        raise ValueError("out of range; allowed: 4 KiB to 1024 GiB")
    return size


def _log_files(text: str) -> int:
    return parse_integer(text, 1, 1000, "a number of files")


def _seconds(text: str) -> int:
    return parse_integer(text, -1, 1_000_000_000, "a time in seconds, or -1 for no maximum")
