-- The node's precious small state. Everything else of a client is a view of the journal and can be had again.
CREATE TABLE value (
    name TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Channels opened here. The journal knows them too, from the first commit on.
CREATE TABLE channel (
    id BLOB PRIMARY KEY,
    auth BLOB NOT NULL,
    name TEXT NOT NULL UNIQUE,
    opened INTEGER NOT NULL,
    -- The sequence of the provider's signed address list that was last taken up; 0 before the first.
    list INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE channel_address (
    channel BLOB NOT NULL,
    place INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (channel, place)
) STRICT, WITHOUT ROWID;

-- The last head seen of each channel (a root with a receipt, or one read as a head), with its sealed commit and the roots before it; these are
-- empty where an older program saw it.
CREATE TABLE seen (
    channel BLOB PRIMARY KEY,
    sequence INTEGER NOT NULL,
    root BLOB NOT NULL,
    head BLOB NOT NULL,
    "commit" BLOB NOT NULL,
    ancestry BLOB NOT NULL DEFAULT X''
) STRICT;

-- Heads sent, or about to be, whose fate is not known: with how far the writer's names had been given out.
CREATE TABLE candidate (
    channel BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    root BLOB NOT NULL,
    records INTEGER NOT NULL,
    packs INTEGER NOT NULL,
    PRIMARY KEY (channel, root)
) STRICT, WITHOUT ROWID;

-- Two signed heads of which neither descends from the other: evidence against a provider.
CREATE TABLE evidence (
    channel BLOB NOT NULL,
    time INTEGER NOT NULL,
    seen BLOB NOT NULL,
    shown BLOB NOT NULL
) STRICT;

-- Data packs sealed here that no commit acknowledged has named yet, written down before their first byte leaves.
CREATE TABLE spool (
    n INTEGER PRIMARY KEY,
    layout BLOB NOT NULL
) STRICT;
CREATE TABLE spool_object (
    n INTEGER NOT NULL,
    channel BLOB NOT NULL,
    root BLOB NOT NULL,
    held INTEGER NOT NULL,
    PRIMARY KEY (n, channel)
) STRICT, WITHOUT ROWID;

-- Inventory nodes of the newest heads, so that an unchanged channel costs one call.
CREATE TABLE node (
    channel BLOB NOT NULL,
    root BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (channel, root)
) STRICT, WITHOUT ROWID;

-- Local files set aside, or about to be: put back before any scan.
CREATE TABLE intent (
    id INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

-- Audits drawn and not answered yet, and what became of those that were.
CREATE TABLE challenge (
    channel BLOB NOT NULL,
    root BLOB NOT NULL,
    drawn INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (channel, root, drawn)
) STRICT, WITHOUT ROWID;
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    channel BLOB NOT NULL,
    time INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
