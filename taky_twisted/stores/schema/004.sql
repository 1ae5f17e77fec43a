-- What this node and the other nodes of its server agreed on last, entry by entry.
CREATE TABLE synced (
    kind TEXT NOT NULL,             -- accounts, files, certificates, ...
    name TEXT NOT NULL,             -- the entry's key among those of its kind
    version TEXT NOT NULL,          -- digits; the higher one is newer
    digest TEXT NOT NULL,           -- of the entry; empty: it was removed
    key TEXT NOT NULL UNIQUE AS (kind || char(10) || name) STORED
);
