-- The catalog: a view of the journal. catalog.rs says what the parts are for; blobs are laid out in catalog/rows.rs.
-- Journal counters and pack numbers are 64 bits without a sign, kept as SQLite's signed integers bit for bit; where order matters
-- (span.counter) the highest bit is turned, which keeps it.

-- position, layout, totals.
CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE writer (number INTEGER PRIMARY KEY, id BLOB NOT NULL, next_pack INTEGER NOT NULL);

-- Records are numbered as they are taken in, which is the order of their stamps: their ordinal. One writer's records in a row are one span.
CREATE TABLE span (first INTEGER PRIMARY KEY, writer INTEGER NOT NULL, counter INTEGER NOT NULL, count INTEGER NOT NULL);
CREATE UNIQUE INDEX span_by_id ON span (writer, counter);
CREATE TABLE brought (first INTEGER PRIMARY KEY, sequence INTEGER NOT NULL);

-- The hot table: one row a path, in the order a walk meets them. child: the folder's number, if anything is or may be below.
-- last: the newest entry's ordinal. Folder 0 holds the roots: source id || prefix.
CREATE TABLE path (
    folder INTEGER NOT NULL,
    name BLOB NOT NULL,
    child INTEGER,
    last INTEGER,
    fact BLOB NOT NULL,
    PRIMARY KEY (folder, name)
) WITHOUT ROWID;
CREATE TABLE folder (number INTEGER PRIMARY KEY, parent INTEGER NOT NULL, name BLOB NOT NULL);

-- Every revision and event, each naming the one before it of the same path: written once, never moved.
CREATE TABLE entry (
    ordinal INTEGER PRIMARY KEY,
    folder INTEGER NOT NULL,
    before INTEGER,
    name BLOB NOT NULL,
    body BLOB NOT NULL
);

CREATE TABLE run (writer INTEGER, counter INTEGER, begun INTEGER NOT NULL, source BLOB NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (writer, counter)) WITHOUT ROWID;
CREATE INDEX run_by_source ON run (source, begun);
CREATE TABLE run_end (writer INTEGER, counter INTEGER, ended INTEGER NOT NULL, time INTEGER NOT NULL, files INTEGER NOT NULL,
    bytes INTEGER NOT NULL, PRIMARY KEY (writer, counter)) WITHOUT ROWID;
CREATE TABLE dropped (writer INTEGER, counter INTEGER, PRIMARY KEY (writer, counter)) WITHOUT ROWID;
CREATE TABLE pin (writer INTEGER, counter INTEGER, pinned INTEGER NOT NULL, PRIMARY KEY (writer, counter)) WITHOUT ROWID;

CREATE TABLE source (id BLOB PRIMARY KEY, label TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE channel (id BLOB PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE policy (pattern TEXT PRIMARY KEY, body BLOB) WITHOUT ROWID;
CREATE TABLE dictionary (id BLOB PRIMARY KEY, domain INTEGER NOT NULL, writer INTEGER NOT NULL, n INTEGER NOT NULL, place INTEGER NOT NULL,
    retired INTEGER NOT NULL, ordinal INTEGER NOT NULL, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE pack (writer INTEGER, n INTEGER, channel BLOB, root BLOB NOT NULL, length INTEGER NOT NULL,
    PRIMARY KEY (writer, n, channel)) WITHOUT ROWID;
CREATE TABLE moved (writer INTEGER, n INTEGER, place INTEGER, to_writer INTEGER NOT NULL, to_n INTEGER NOT NULL,
    to_place INTEGER NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (writer, n, place)) WITHOUT ROWID;

-- Not of the journal: where the chunks of packs stand, kept so that no table need be fetched twice.
CREATE TABLE pack_layout (number INTEGER PRIMARY KEY, writer INTEGER NOT NULL, n INTEGER NOT NULL, body BLOB NOT NULL);
CREATE UNIQUE INDEX pack_layout_by_number ON pack_layout (writer, n);
