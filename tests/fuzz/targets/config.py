"""``taky.conf``, and endpoint strings.

An input that begins with ``:`` is an endpoint string, all others are files. Holds: only `ConfigError` and
`EndpointError` are raised, with one line that shows no password; what was read can be named in the log; what
``takyctl restore`` changes in a file is changed, and the rest of it means what it did.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.internet.testing import MemoryReactorClock

from taky_twisted.cli import restore
from taky_twisted.config import conf_file, limits, settings, taky_conf, taky_redis, values
from taky_twisted.config.conf_file import ConfFile
from taky_twisted.config.limits import LIMITS
from taky_twisted.config.settings import Settings
from taky_twisted.config.values import ConfigError
from taky_twisted.endpoints import doors, strings
from taky_twisted.endpoints.doors import TLSDefaults, server_endpoint
from taky_twisted.identity.errors import EndpointError
from tests.fuzz.target import Target

FILE = Path("/nowhere/taky.conf")
SECRET = "s3cret-w0rd"
_HIDDEN = re.compile(rf"(?m)^(?:server_p12_pw|key_pw) *= *{SECRET}$|^redis = redis://:{SECRET}@[a-z]+")
"""Where it is known to be a password."""
CHANGES: restore.Changes = {
    ("taky", "root_dir"): "data",
    ("dp_server", "upload_path"): None,
    ("ssl", "ca"): "ssl/ca.crt",
}

assert doors and limits and settings and taky_redis and values  # to be instrumented


def read(data: bytes) -> Settings:
    """Read a file as `taky_conf.load` does."""
    if len(data) > conf_file.MAX_FILE_BYTES:
        raise ConfigError("too large")
    return taky_conf.read_settings(ConfFile(conf_file._sections(data, FILE), FILE, FILE.parent), FILE.parent)


def run(data: bytes) -> None:
    if data.startswith(b":"):
        endpoint(data[1:].decode("utf-8", "replace"))
    else:
        file(data)


def file(data: bytes) -> None:
    """Read a file, and see what can be said of it."""
    try:
        found = read(data)
    except ConfigError as error:
        check_line(str(error), data)
        return
    for doors_of in (found.cot_doors, found.marti_doors, found.enroll_doors, found.monitor_doors):
        assert all(isinstance(each, str) and each for each in doors_of())
    for warning in found.warnings:
        check_line(warning, data)
    for name, limit in LIMITS.items():
        limit.check(getattr(found.limits, name))
    check_secret(repr(found.ssl) + repr(found.redis), data)
    restored(data, found)


def restored(data: bytes, found: Settings) -> None:
    """Change what ``takyctl restore`` changes."""
    text = data.decode("utf-8-sig")
    new = restore.changed(text, CHANGES)
    try:
        again = read(new.encode())
    except ConfigError as error:
        raise AssertionError(f"{text!r} became {new!r}: {error}") from error
    assert again.data_dir == FILE.parent / "data", (text, new)
    assert again.upload_path is None, (text, new)
    assert again.ssl.ca == FILE.parent / "ssl/ca.crt", (text, new)
    for name in ("hostname", "node_id", "bind_ip", "store", "cot_port", "cot_endpoints", "limits", "tak_protocol_of"):
        assert getattr(again, name) == getattr(found, name), (name, text, new)


def check_line(text: str, data: bytes) -> None:
    """See that a text for the operator is one line, without passwords."""
    assert text.isprintable() and len(text) < 20000, text
    check_secret(text, data)


def check_secret(text: str, data: bytes) -> None:
    """See that a text has no password in it, if that is where it is known to be one."""
    said = data.decode("utf-8", "replace")
    if len(_HIDDEN.findall(said)) == said.count(SECRET):
        assert SECRET not in text, text


def endpoint(text: str) -> None:
    """Make an endpoint of a string."""
    try:
        words, keys = strings.split(text)
    except EndpointError as error:
        assert SECRET not in str(error), error
        words, keys = [], {}
    if words[:1] and words[0].lower() == "tls" and any(map(os.path.isdir, words[1:2])):
        return  # Twisted reads all certificates below that folder, however many there are
    hidden = text.count(SECRET) == sum(value == SECRET for key, value in keys.items() if "password" in key.lower())
    defaults = TLSDefaults(private_key="/nowhere/key", certificate="/nowhere/crt", ca_certificates="/nowhere/ca")
    for of_site in (None, defaults):
        try:
            made = server_endpoint(MemoryReactorClock(), text, of_site)
        except EndpointError as error:
            assert not hidden or SECRET not in str(error), error
        else:
            assert hasattr(made, "listen")
    if words:
        assert strings.split(strings.joined(words, keys)) == (words, keys), text


def _seeds() -> list[bytes]:
    manual = (Path(__file__).resolve().parents[3] / "doc/reference/configuration.rst").read_text("utf-8")
    keys = re.findall(r"(?m)^\s+\* - ``(\w+)``", manual)
    everything = "".join(f"{name} = {limit.low:g}\n" for name, limit in LIMITS.items())
    texts = [
        "[taky]\nhostname = tak.example\nnode_id = NODE-1\nbind_ip = ::\npublic_ip = 192.0.2.1\nroot_dir = x\n",
        "[taky]\nredis = redis://:s3cret-w0rd@host:6379/0\n",
        "[taky]\nstore = redis:tcp:localhost:6379\nbus = redis:tcp:localhost:6379\nredis_db = 1\n",
        "[cot_server]\nport = 8087\nmon_ip = 127.0.0.1\nmon_port = 1\nlog_cot = /x\nmax_persist_ttl = -1\n",
        "[ssl]\nenabled = true\nca = a\nca_key = b\nserver_p12_pw = s3cret-w0rd\ncert =\nkey_pw = s3cret-w0rd\n",
        "[cot_server]\nendpoints =\n  tcp:1\n  ssl:2:caCerts=x\nmulticast = 239.2.3.1:6969:both\n",
        "[tak_protocol]\nfox = xml\n[dp_server]\nendpoints = tcp:8080\nanonymous_http = no\n",
        "[dp_server]\nupload_path = /x\npublic_url = https://h:1\n",
        "\ufeff[taky]\r\nhostname: x ; y\r\n# z\r\n",
        f"[limits]\n{everything}",
        "[taky\n",
        "x = 1\n",
        "[taky]\n = 1\n",
        "[taky]\n  x\n",
        "[taky]\na=1\na=2\n",
        "[DEFAULT]\nhostname = x\n",
    ]
    return [
        *(text.encode() for text in texts),
        *(f"[taky]\n{key} = 1\n".encode() for key in keys[:60]),
        *(
            b":" + one
            for one in (
                *(b"tcp:8087", b"tcp:port=1:interface=\\:\\:1", b"ssl:8089"),
                b"ssl:8089:clientCert=optional:auth=password",
                *(b"taktls:1:privateKey=a:certKey=b:caCerts=c:crl=d:minTLS=1.3", b"ssl:inner=haproxy\\:tcp\\:1"),
                *(b"unix:/x:mode=600", b"systemd:domain=INET:index=0", b"haproxy:tcp:1"),
                b"ssl:1:keyPassword=s3cret-w0rd:x=1",
                *(b"ssl:1:pkcs12=a:keyPassword=s3cret-w0rd", b"tls:1", b"stdio:", b"fd:1", b"tcp6:1", b"onion:1", b""),
            )
        ),
    ]


TARGET = Target(
    run,
    seeds=_seeds,
    words=[
        *(b"[taky]\n", b"[cot_server]\n", b"[dp_server]\n", b"[ssl]\n", b"[limits]\n", b"[tak_protocol]\n", b" = "),
        b"\n  ",
        *(b"endpoints", b"upload_path", b"root_dir", b"ca = ", b"; ", b"# ", b"%(", b"%%", b"\\:", b"inner="),
        b"interface=",
        *(b"auth=", b"clientCert=", b"port=", b"redis:tcp:", b"redis://", b"sqlite:", b"memory:", b"239.1.2.3:1:in"),
        *(f"{name} = ".encode() for name in LIMITS),
    ],
)
