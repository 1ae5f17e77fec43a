-- What was said in the last days. Times are seconds since the epoch.
-- Beside the XML stand the things that are searched for.

-- Sets of groups that something was said to. There are few of them, and many events.
CREATE TABLE group_set (
    number INTEGER PRIMARY KEY NOT NULL,
    names TEXT NOT NULL UNIQUE      -- JSON array of strings, sorted
);

-- Events, numbered in the order in which they were stored.
CREATE TABLE event (
    number INTEGER PRIMARY KEY NOT NULL,
    uid TEXT NOT NULL,
    type TEXT NOT NULL,             -- CoT type, a-f-G-U-C
    time REAL NOT NULL,             -- when it was heard; of an uploaded track, when somebody was there
    stored REAL NOT NULL,           -- when it was stored: it is forgotten so long after that
    group_set INTEGER NOT NULL,     -- what it was said to
    readers TEXT,                   -- JSON array of the names of those who alone may see it; NULL: all of the groups
    callsign TEXT NOT NULL,
    lat REAL NOT NULL,              -- degrees
    lon REAL NOT NULL,              -- degrees
    hae REAL,                       -- meters; NULL: not said
    packed INTEGER NOT NULL,        -- how the XML is packed: 0 not at all, 1 with history/packing.py's dictionary
    xml BLOB NOT NULL               -- the event as delivered
);

CREATE INDEX event_uid ON event (uid, time);
CREATE INDEX event_time ON event (time);
