-- The ledger: rows of what volumes and their logs say. Nothing here is the only copy of anything.
-- Unsigned 64-bit numbers are stored bit by bit as signed ones: a date that never comes is -1.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;

-- The last entry of each volume's log that is in these rows.
CREATE TABLE marks (
    volume   BLOB PRIMARY KEY,
    position INTEGER NOT NULL,
    digest   BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE channels (
    number     INTEGER PRIMARY KEY,
    channel    BLOB NOT NULL UNIQUE,
    client     BLOB NOT NULL,
    label      TEXT NOT NULL,
    terms      BLOB NOT NULL,
    log        BLOB NOT NULL, -- the volume in whose log the channel is
    era        INTEGER NOT NULL, -- how often it went from one log to another
    registered INTEGER NOT NULL,
    seen       INTEGER NOT NULL,
    met        INTEGER NOT NULL, -- when its client was last here, to the day
    revoked    INTEGER, -- since when its client may write no more
    reads_until INTEGER, -- until when it may still read
    sequence   INTEGER NOT NULL, -- of the newest head; 0 before the first
    data       BLOB NOT NULL,
    vital      BLOB NOT NULL,
    ancestry   BLOB NOT NULL,
    live       INTEGER NOT NULL,
    held       INTEGER NOT NULL,
    reserved   INTEGER NOT NULL
);

CREATE TABLE packs (
    channel   INTEGER NOT NULL,
    root      BLOB NOT NULL,
    length    INTEGER NOT NULL,
    class     INTEGER NOT NULL,
    volume    BLOB NOT NULL,
    next_date INTEGER, -- the first at which something of it may be freed
    extents   BLOB NOT NULL,
    bytes     INTEGER NOT NULL, -- what is charged for all that is held
    PRIMARY KEY (channel, root, length)
) WITHOUT ROWID;
CREATE INDEX packs_on ON packs (volume, bytes);
CREATE INDEX packs_due ON packs (channel, next_date) WHERE next_date IS NOT NULL;

CREATE TABLE nodes (
    channel    INTEGER NOT NULL,
    root       BLOB NOT NULL,
    length     INTEGER NOT NULL,
    free_after INTEGER, -- none while it lives
    bytes      BLOB NOT NULL,
    PRIMARY KEY (channel, root, length)
);
CREATE INDEX nodes_due ON nodes (channel, free_after, length) WHERE free_after IS NOT NULL;

CREATE TABLE heads (
    channel       INTEGER NOT NULL,
    sequence      INTEGER NOT NULL,
    root          BLOB NOT NULL,
    admitted      INTEGER NOT NULL,
    free_after    INTEGER, -- none while it is the newest
    length        INTEGER NOT NULL,
    commit_root   BLOB, -- none once it was thinned out
    commit_length INTEGER,
    signed        BLOB NOT NULL,
    sealed        BLOB, -- the commit
    PRIMARY KEY (channel, sequence)
);
CREATE INDEX heads_by_root ON heads (channel, root);
CREATE INDEX heads_due ON heads (channel, free_after) WHERE free_after IS NOT NULL;

CREATE TABLE uploads (
    channel  INTEGER NOT NULL,
    root     BLOB NOT NULL,
    length   INTEGER NOT NULL,
    class    INTEGER NOT NULL,
    volume   BLOB NOT NULL,
    reserved INTEGER NOT NULL,
    expires  INTEGER NOT NULL,
    PRIMARY KEY (channel, root, length)
) WITHOUT ROWID;

-- The root of every head there ever was before the newest, and what proofs of ancestry are made of.
CREATE TABLE roots (
    channel  INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    root     BLOB NOT NULL,
    PRIMARY KEY (channel, sequence)
) WITHOUT ROWID;
CREATE TABLE ancestry (
    channel INTEGER NOT NULL,
    height  INTEGER NOT NULL,
    place   INTEGER NOT NULL,
    hash    BLOB NOT NULL,
    PRIMARY KEY (channel, height, place)
) WITHOUT ROWID;

-- What is kept of the provider itself: see Record.
CREATE TABLE records (
    number  INTEGER PRIMARY KEY,
    kind    INTEGER NOT NULL,
    name    BLOB NOT NULL,
    version INTEGER NOT NULL,
    log     BLOB NOT NULL,
    body    BLOB NOT NULL,
    UNIQUE (kind, name)
);

-- Groups that no row of a pack names any more and that its file may still have.
CREATE TABLE punches (
    channel INTEGER NOT NULL,
    root    BLOB NOT NULL,
    length  INTEGER NOT NULL,
    volume  BLOB NOT NULL,
    PRIMARY KEY (channel, root, length, volume)
) WITHOUT ROWID;
