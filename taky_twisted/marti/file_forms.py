"""How files are listed: three forms of the same, because TAK Server has three.

Sources: TAK Server ``sync/Metadata.java`` (all scalars are strings), ``sync/model/Resource.java`` and
``tak/server/filemanager/FileManagerApi.java``; ATAK-CIV ``android/missionpackage/http/datamodel/``
``MissionPackageQueryResult.java`` (one entry that it cannot read, and ATAK shows none).
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from taky_twisted.enterprise_sync.records import StoredFile
from taky_twisted.marti.replies import LAST_SECOND, date

NOBODY = "anonymous"
"""Who uploaded, where nothing proved it."""
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "kB"))


def metadata(file: StoredFile) -> dict[str, Any]:
    """List a file as ``/Marti/sync/search`` does: all scalars are strings, what is not known is absent."""
    form: dict[str, Any] = {
        "UID": file.uid,
        "Name": file.name,
        "Hash": file.hash,
        "PrimaryKey": str(file.number),
        "SubmissionDateTime": date(file.submitted),
        "SubmissionUser": file.submitter or NOBODY,
        "CreatorUid": file.creator_uid,
        "MIMEType": file.mime_type,
        "Size": str(file.size),
        "Tool": file.tool,
        "EXPIRATION": str(int(file.expiration)),
        "DownloadPath": file.name,
    }
    places = (("Latitude", file.latitude), ("Longitude", file.longitude), ("Altitude", file.altitude))
    form |= {name: str(value) for name, value in places if value is not None}
    if file.remarks:
        form["Remarks"] = file.remarks
    lists = (("Keywords", file.keywords), ("Permissions", file.permissions), ("Contacts", file.contacts))
    return form | {name: list(values) for name, values in lists} | {"Groups": sorted(file.groups)}


def resource(file: StoredFile) -> dict[str, Any]:
    """List a file as ``/Marti/api/sync/search`` does."""
    form: dict[str, Any] = {
        "filename": file.name,
        "keywords": list(file.keywords),
        "mimeType": file.mime_type,
        "contentType": file.mime_type,
        "name": file.name,
        "submissionTime": date(file.submitted),
        "submitter": file.submitter or NOBODY,
        "uid": file.uid,
        "creatorUid": file.creator_uid,
        "hash": file.hash,
        "size": file.size,
        "tool": file.tool,
        "groups": sorted(file.groups),
        "expiration": int(file.expiration),
    }
    places = (("latitude", file.latitude), ("longitude", file.longitude), ("altitude", file.altitude))
    return form | {name: value for name, value in places if value is not None}


def row(file: StoredFile, creator: str) -> dict[str, str]:
    """List a file, and who made it, as ``/Marti/api/files/metadata`` does: for people."""
    submitted = datetime.fromtimestamp(min(max(file.submitted, 0.0), LAST_SECOND), timezone.utc)
    return {
        "Name": file.name,
        "User": file.submitter or NOBODY,
        "Creator": creator,
        "Size": in_units(file.size),
        "Time": submitted.strftime("%Y-%m-%d %H:%M:%S.") + f"{submitted.microsecond // 1000:03d}",
        "MimeType": file.mime_type,
        "Keywords": ",".join(file.keywords),
        "Expiration": "none" if file.expiration < 0 else date(file.expiration)[:19],
        "Hash": file.hash,
        "Groups": ",".join(sorted(file.groups)),
        "Tool": file.tool,
    }


def in_units(size: int) -> str:
    """Spell a number of bytes for people, rounded down."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size // unit}{name}"
    return f"{size}B"


def disposition(kind: str, name: str) -> str:
    """Spell a ``Content-Disposition``: a name in ASCII for all, and the whole one for who knows RFC 6266."""
    plain = "".join(one if " " <= one <= "~" and one not in '"\\%' else "_" for one in name)
    return f"{kind}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
