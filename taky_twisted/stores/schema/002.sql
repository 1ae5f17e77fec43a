-- What the Marti API keeps. Times are seconds since the epoch, lists and groups JSON arrays of strings.

-- Groups that somebody has switched off.
CREATE TABLE active_groups (
    principal TEXT NOT NULL,        -- who
    uid TEXT NOT NULL,              -- on which device; empty: on all
    inactive_in TEXT NOT NULL,      -- groups that it does not speak to
    inactive_out TEXT NOT NULL,     -- groups that it does not hear
    changed REAL NOT NULL,          -- when it was chosen so
    key TEXT NOT NULL UNIQUE AS (principal || char(10) || uid) STORED
);

-- Stored files; their content is on disk, by its hash.
CREATE TABLE file (
    number INTEGER PRIMARY KEY NOT NULL,  -- counts up
    hash TEXT NOT NULL,             -- SHA-256 of the content, lower-case hex
    uid TEXT NOT NULL,
    name TEXT NOT NULL,             -- file name as the uploader gave it
    size INTEGER NOT NULL,          -- bytes
    mime_type TEXT NOT NULL,
    tool TEXT NOT NULL,             -- public, private, or a tool's name
    keywords TEXT NOT NULL,
    submitted REAL NOT NULL,        -- when it was uploaded
    submitter TEXT,                 -- who the uploader was proved to be; NULL: nobody
    creator_uid TEXT NOT NULL,      -- the device, as the uploader said
    "groups" TEXT NOT NULL,         -- IN groups of the uploader
    expiration REAL NOT NULL,       -- when it goes; negative: never
    remarks TEXT NOT NULL,
    latitude REAL,                  -- degrees
    longitude REAL,                 -- degrees
    altitude REAL,                  -- meters
    permissions TEXT NOT NULL,
    contacts TEXT NOT NULL
);

-- Video connections.
CREATE TABLE video (
    uid TEXT PRIMARY KEY NOT NULL,
    alias TEXT NOT NULL,
    active INTEGER NOT NULL,
    document TEXT NOT NULL,         -- JSON, as /Marti/api/video shows it
    owner TEXT,                     -- who it was proved to be that made it; NULL: nobody
    "groups" TEXT NOT NULL,         -- IN groups of who made it
    changed REAL NOT NULL
);

-- Who may still get certificates with a token.
CREATE TABLE invite (
    hash TEXT PRIMARY KEY NOT NULL, -- SHA-256 of the token, lower-case hex
    name TEXT NOT NULL,             -- whose certificates they will be
    uses INTEGER NOT NULL,          -- how many are left
    created REAL NOT NULL,
    expires REAL NOT NULL
);

-- Who has just got one, and may have to ask for it once more.
CREATE TABLE spent_use (
    hash TEXT NOT NULL,             -- of the token
    key_sha256 TEXT NOT NULL,       -- of the device's public key, lower-case hex
    name TEXT NOT NULL,
    client_uid TEXT NOT NULL,       -- the device, as it said
    serial TEXT NOT NULL,           -- of the certificate, lower-case hex
    expires REAL NOT NULL,
    key TEXT NOT NULL UNIQUE AS (hash || char(10) || key_sha256) STORED
);
