-- Who comes with a password, and which groups names have. Times are seconds since the epoch.

CREATE TABLE account (
    key TEXT PRIMARY KEY NOT NULL,  -- the name, case-folded
    name TEXT NOT NULL,             -- the name as it is spelled
    password TEXT NOT NULL,         -- argon2's hash; empty: none
    groups_in TEXT NOT NULL,        -- groups that it may speak to, a JSON array
    groups_out TEXT NOT NULL,       -- groups that it may hear, a JSON array
    admin INTEGER NOT NULL,         -- 1: may administer the server
    enabled INTEGER NOT NULL,       -- 1: its password counts
    since REAL NOT NULL             -- tokens from before are void
);
