"""One request for every route, about things that are not there, so that it can be asked again and again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import urlencode

from tests.marti.file_server import FORM, form
from tests.samples import ping
from tests.security.people import DEVICE
from tests.security.world import PASSWORD

NOWHERE = "0" * 64
"""The hash of no content, and of no certificate."""
JSON = {"Content-Type": "application/json"}
SPAN = "start=2026-03-01T00:00:00Z&end=2026-03-01T01:00:00Z"


@dataclass(frozen=True)
class Asked:
    """A request, and how it ends for whoever may make it."""

    target: str
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def _said(**members: object) -> bytes:
    return json.dumps(members).encode()


def _plain(*paths: str, status: int = 200, body: bytes = b"") -> dict[tuple[str, str], Asked]:
    """Make requests for paths without anything in them."""
    found = {}
    for each in paths:
        method, path = each.split(" ")
        found[method, path] = Asked(path, status, body)
    return found


SIGNING = "the request for a certificate"
"""Stands for the body that only a test can make."""

ASKED: dict[tuple[str, str], Asked] = {
    **_plain(
        "GET /Marti/api/version/config",
        "GET /Marti/api/version/info",
        "GET /Marti/api/node/id",
        "GET /Marti/api/version",
        "GET /Marti/api/ver",
        "GET /Marti/api/clientEndPoints",
        "GET /Marti/api/contacts/all",
        "GET /Marti/api/contacts/all/full",
        "GET /Marti/api/contacts/all/lite",
        "GET /Marti/api/groups/all",
        "GET /Marti/api/groups/groupCacheEnabled",
        "GET /Marti/api/subscriptions/all",
        "GET /Marti/api/home",
        "GET /Marti/api/util/isAdmin",
        "GET /Marti/api/util/user/roles",
        "GET /Marti/GetTime",
        "POST /Marti/ErrorLog",
        "GET /Marti/api/cops",
        "GET /Marti/api/cops/hierarchy",
        "GET /Marti/api/iconset/all/uid",
        "GET /Marti/api/citrap",
        "GET /Marti/api/plugins/info/all",
        "GET /Marti/api/repeater/list",
        "GET /Marti/sync/search",
        "GET /Marti/api/sync/search",
        "GET /files/api/config",
        "GET /Marti/api/files/metadata/count",
        "GET /Marti/api/files/metadata",
        "GET /Marti/LatestKML",
        "GET /Marti/KmlMasterSA",
        "GET /Marti/api/injectors/cot/uid",
        "GET /Marti/api/video",
        "GET /Marti/vcm",
        "GET /Marti/api/certadmin/cert",
        "GET /Marti/api/certadmin/cert/active",
        "GET /Marti/api/certadmin/cert/expired",
        "GET /Marti/api/certadmin/cert/replaced",
        "GET /Marti/api/certadmin/cert/revoked",
    ),
    **_plain(
        "GET /Marti/api/groups",
        "PUT /Marti/api/groups/activeForce",
        "GET /Marti/api/groups/members",
        "POST /Marti/api/groups/update",
        "GET /Marti/api/groups/user",
        "GET /Marti/api/groupprefix",
        "GET /Marti/api/users/all",
        "POST /Marti/api/subscriptions/add",
        "DELETE /Marti/ErrorLog",
        "GET /Marti/ErrorLog",
        "GET /Marti/api/authentication/config",
        "GET /Marti/api/config",
        "POST /Marti/api/iconset",
        "GET /Marti/api/inputs",
        "POST /Marti/api/plugins/info/archive",
        "POST /Marti/api/plugins/info/enabled",
        "POST /Marti/api/plugins/info/started",
        "GET /Marti/api/repeater/period",
        "POST /Marti/api/repeater/period",
        "GET /Marti/api/security/config",
        "PUT /Marti/api/security/config",
        "GET /Marti/api/security/isSecure",
        "GET /Marti/api/security/verifyConfig",
        "POST /files/api/config",
        "DELETE /Marti/api/injectors/cot/uid",
        "POST /Marti/vcu",
        "POST /Marti/vcs",
        status=501,
    ),
    ("GET", "/Marti/api/groups/update/<username>"): Asked("/Marti/api/groups/update/fox", 501),
    ("GET", "/Marti/api/users/<connection>"): Asked("/Marti/api/users/1", 501),
    ("DELETE", "/Marti/api/subscriptions/delete/<path:uid>"): Asked("/Marti/api/subscriptions/delete/X", 501),
    ("POST", "/Marti/api/subscriptions/incognito/<path:uid>"): Asked("/Marti/api/subscriptions/incognito/X", 501),
    ("DELETE", "/Marti/api/subscriptions/<path:uid>/filter"): Asked("/Marti/api/subscriptions/X/filter", 501),
    ("PUT", "/Marti/api/subscriptions/<path:uid>/filter"): Asked("/Marti/api/subscriptions/X/filter", 501),
    ("GET", "/Marti/api/repeater/remove/<path:uid>"): Asked("/Marti/api/repeater/remove/X", 501),
    ("GET", "/Marti/api/groups/<name>/<direction>"): Asked("/Marti/api/groups/no-such-group/IN", 404),
    ("PUT", "/Marti/api/groups/active"): Asked("/Marti/api/groups/active", 200, b"[]", JSON),
    ("PUT", "/Marti/api/groups/activebits"): Asked("/Marti/api/groups/activebits", 400, b"[]", JSON),
    ("GET", "/Marti/api/subscription/<path:uid>"): Asked("/Marti/api/subscription/X", 404),
    ("GET", "/Marti/sync/content"): Asked(f"/Marti/sync/content?hash={NOWHERE}", 404),
    ("GET", "/Marti/sync/missionquery"): Asked(f"/Marti/sync/missionquery?hash={NOWHERE}", 404),
    ("GET", "/Marti/sync/delete"): Asked(f"/Marti/sync/delete?hash={NOWHERE}", 404),
    ("POST", "/Marti/sync/delete"): Asked(f"/Marti/sync/delete?hash={NOWHERE}", 404),
    ("DELETE", "/Marti/sync/delete"): Asked(f"/Marti/sync/delete?hash={NOWHERE}", 404),
    # Whoever may upload hears that this is another content than was announced.
    ("POST", "/Marti/sync/missionupload"): Asked(
        f"/Marti/sync/missionupload?filename=x.zip&hash={NOWHERE}", 400, form(b"x"), FORM
    ),
    ("POST", "/Marti/sync/upload"): Asked(f"/Marti/sync/upload?name=x.zip&hash={NOWHERE}", 400, b"x"),
    ("PUT", "/Marti/api/sync/metadata/<hash:hash>/<field>"): Asked(
        f"/Marti/api/sync/metadata/{NOWHERE}/tool", 404, b"public"
    ),
    ("GET", "/Marti/api/sync/metadata/<hash:hash>/tool"): Asked(f"/Marti/api/sync/metadata/{NOWHERE}/tool", 404),
    ("GET", "/Marti/api/resources/<hash:hash>"): Asked(f"/Marti/api/resources/{NOWHERE}", 404),
    ("PUT", "/Marti/api/files/<hash:hash>/metadata"): Asked(f"/Marti/api/files/{NOWHERE}/metadata?keywords=x", 404),
    ("GET", "/Marti/api/files/<hash:hash>"): Asked(f"/Marti/api/files/{NOWHERE}", 404),
    ("DELETE", "/Marti/api/files/<hash:hash>"): Asked(f"/Marti/api/files/{NOWHERE}", 404),
    ("GET", "/Marti/api/cot/xml/<path:uid>/all"): Asked("/Marti/api/cot/xml/X/all"),
    ("GET", "/Marti/api/cot/xml/<path:uid>"): Asked("/Marti/api/cot/xml/X", 404),
    ("GET", "/Marti/api/cot"): Asked("/Marti/api/cot", 200, b"[]", JSON),
    ("POST", "/Marti/api/cot"): Asked("/Marti/api/cot", 200, b"[]", JSON),
    ("GET", "/Marti/api/cot/sa"): Asked(f"/Marti/api/cot/sa?{SPAN}", 404),
    ("GET", "/Marti/ExportMissionKML"): Asked(
        "/Marti/ExportMissionKML?startTime=2026-03-01T00:00:00Z&endTime=2026-03-01T01:00:00Z"
    ),
    ("POST", "/Marti/ExportMissionKML"): Asked(
        "/Marti/ExportMissionKML?startTime=2026-03-01T00:00:00Z&endTime=2026-03-01T01:00:00Z"
    ),
    ("POST", "/Marti/TracksKML"): Asked("/Marti/TracksKML?uid=X&callsign=X", 400, b"<kml/>"),
    ("POST", "/Marti/api/injectors/cot/uid"): Asked(
        "/Marti/api/injectors/cot/uid", 200, _said(uid="X", toInject=ping().decode()), JSON
    ),
    ("GET", "/Marti/api/injectors/cot/uid/<path:uid>"): Asked("/Marti/api/injectors/cot/uid/X"),
    ("PUT", "/Marti/api/video/<path:uid>"): Asked(
        "/Marti/api/video/X", 404, _said(uuid="X", alias="x", feeds=[]), JSON
    ),
    ("POST", "/Marti/api/video"): Asked("/Marti/api/video", 200, _said(videoConnections=[]), JSON),
    ("DELETE", "/Marti/api/video/<path:uid>"): Asked("/Marti/api/video/X", 404),
    ("GET", "/Marti/api/video/<path:uid>"): Asked("/Marti/api/video/X", 404),
    ("DELETE", "/Marti/vcm"): Asked("/Marti/vcm?id=X", 404),
    ("POST", "/Marti/vcm"): Asked("/Marti/vcm", 200, b"<videoConnections/>"),
    ("GET", "/takproto/1"): Asked("/takproto/1", 426),  # without the headers of a WebSocket
    ("GET", "/Marti/api/device/profile/connection"): Asked("/Marti/api/device/profile/connection", 204),
    ("GET", "/Marti/api/device/profile/enrollment"): Asked("/Marti/api/device/profile/enrollment", 204),
    ("GET", "/Marti/api/device/profile/tool/<tool>"): Asked("/Marti/api/device/profile/tool/x", 204),
    ("GET", "/Marti/api/certadmin/cert/<hash>"): Asked(f"/Marti/api/certadmin/cert/{NOWHERE}", 404),
    ("GET", "/Marti/api/certadmin/cert/<hash>/download"): Asked(f"/Marti/api/certadmin/cert/{NOWHERE}/download", 404),
    ("GET", "/Marti/api/certadmin/cert/download/<ids>"): Asked("/Marti/api/certadmin/cert/download/1"),
    ("DELETE", "/Marti/api/certadmin/cert/<hash>"): Asked(f"/Marti/api/certadmin/cert/{NOWHERE}", 404),
    ("DELETE", "/Marti/api/certadmin/cert/revoke/<ids>"): Asked("/Marti/api/certadmin/cert/revoke/1"),
    ("DELETE", "/Marti/api/certadmin/cert/delete/<ids>"): Asked("/Marti/api/certadmin/cert/delete/1"),
    ("GET", "/Marti/api/tls/config"): Asked(f"/Marti/api/tls/config?clientUid={DEVICE}"),
    ("GET", "/Marti/api/tls/profile/enrollment"): Asked(f"/Marti/api/tls/profile/enrollment?clientUid={DEVICE}", 204),
    ("GET", "/Marti/api/tls/profile/tool/<tool>"): Asked(f"/Marti/api/tls/profile/tool/x?clientUid={DEVICE}", 204),
    ("POST", "/Marti/api/tls/signClient"): Asked(
        f"/Marti/api/tls/signClient?clientUid={DEVICE}", 200, SIGNING.encode()
    ),
    ("POST", "/Marti/api/tls/signClient/v2"): Asked(
        f"/Marti/api/tls/signClient/v2?clientUid={DEVICE}", 200, SIGNING.encode()
    ),
    ("POST", "/oauth/token"): Asked(
        "/oauth/token?" + urlencode({"grant_type": "password", "username": "fox", "password": PASSWORD})
    ),
}
