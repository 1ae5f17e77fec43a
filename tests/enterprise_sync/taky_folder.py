"""taky's folder of uploaded files, as taky 0.10 makes it (``taky/dps/views/datapackage.py``)."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any


class TakyFolder:
    """An ``upload_path`` of taky."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "meta").mkdir(parents=True)

    def upload(self, creator: str, name: str, data: bytes, **changed: Any) -> str:
        """Do what taky does with an upload; None takes a key away. Returns the hash."""
        digest = sha256(data).hexdigest()
        file_name = f"{creator}_{name}".replace(" ", "_")
        meta = {
            "UID": file_name,
            "Name": name,
            "Hash": digest,
            "PrimaryKey": 1,
            "SubmissionDateTime": "2024-05-06T07:08:09.123456Z",
            "SubmissionUser": "alice",
            "CreatorUid": creator,
            "Keywords": "kw",
            "MIMEType": "application/x-zip-compressed",
            "Size": len(data),
            "Visibility": "private",
        } | changed
        (self.path / file_name).write_bytes(data)
        self.describe(file_name, {key: value for key, value in meta.items() if value is not None})
        link = self.path / "meta" / f"{digest}.json"
        if not link.is_symlink():
            os.symlink(f"{file_name}.json", link)
        return digest

    def describe(self, file_name: str, meta: object) -> None:
        """Write a description."""
        (self.path / "meta" / f"{file_name}.json").write_text(json.dumps(meta), encoding="utf-8")

    def snapshot(self) -> dict[str, bytes | str]:
        """Read all that taky has: contents of files, targets of links."""
        return {
            str(path.relative_to(self.path)): os.readlink(path) if path.is_symlink() else path.read_bytes()
            for path in sorted(self.path.rglob("*"))
            if "blobs" not in path.parts and not (path.is_dir() and not path.is_symlink())
        }
