-- What must survive a restart. One table for each kind of record in routing/records.py.
-- Times are seconds since the epoch. Groups and other lists are JSON arrays of strings.
-- The event comes last in a row: what is searched for is read without it.

-- Retained events: what is on the map and shown to newcomers.
CREATE TABLE item (
    uid TEXT PRIMARY KEY NOT NULL,
    type TEXT NOT NULL,             -- CoT type, a-h-G
    "groups" TEXT NOT NULL,         -- IN groups of who said it
    time REAL NOT NULL,             -- the event's own time
    stale REAL NOT NULL,            -- the event's own stale
    expires REAL NOT NULL,          -- when it leaves the store
    xml BLOB NOT NULL               -- the event as delivered
);

-- Deleted items: an older copy of one is not retained again.
CREATE TABLE tombstone (
    uid TEXT PRIMARY KEY NOT NULL,  -- of the deleted item
    "groups" TEXT NOT NULL,         -- IN groups of who deleted it
    deleted REAL NOT NULL,          -- copies with a time up to this stay deleted
    expires REAL NOT NULL           -- when this is forgotten
);

-- Contacts: uids that have reported SA, online or not.
CREATE TABLE contact (
    uid TEXT PRIMARY KEY NOT NULL,
    callsign TEXT NOT NULL,
    type TEXT NOT NULL,             -- CoT type of the latest SA
    team TEXT NOT NULL,             -- Cyan
    role TEXT NOT NULL,             -- Team Member
    takv TEXT NOT NULL,             -- client software, platform:version
    principal TEXT,                 -- who the certificate or the account proved it to be; NULL: nobody
    groups_in TEXT NOT NULL,        -- groups it may send into
    groups_out TEXT NOT NULL,       -- groups it may hear
    seen REAL NOT NULL,             -- last heard or left
    stale REAL NOT NULL,            -- the latest SA's stale
    online INTEGER NOT NULL,        -- 0 once its departure was announced
    xml BLOB NOT NULL               -- the latest SA as delivered
);

-- Emergencies: repeated until they are canceled or a day old.
CREATE TABLE emergency (
    uid TEXT PRIMARY KEY NOT NULL,  -- of the event
    "groups" TEXT NOT NULL,         -- IN groups of who raised it
    raiser TEXT NOT NULL,           -- uid that raised it; may be empty
    principal TEXT,                 -- who the raiser was proved to be; NULL: nobody
    raised REAL NOT NULL,           -- when
    callsigns TEXT NOT NULL,        -- destinations by callsign; [] with uids [] means everybody
    uids TEXT NOT NULL,             -- destinations by uid
    xml BLOB NOT NULL               -- as raised
);

-- Directed chat that waits for a contact who is offline.
CREATE TABLE chat (
    number INTEGER PRIMARY KEY NOT NULL,  -- counts up in the order in which they were said
    recipient TEXT NOT NULL,        -- uid it waits for
    principal TEXT,                 -- who the recipient was proved to be; NULL for an anonymous one
    "groups" TEXT NOT NULL,         -- IN groups of who said it
    expires REAL NOT NULL,          -- when it is given up
    xml BLOB NOT NULL               -- the event as delivered
);
