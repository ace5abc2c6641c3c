-- Groups of packs that a channel was found not to hold as its root says: what is here is not known to dedup. groups: pairs of 32-bit numbers,
-- from and up to which. flags: 1 not there at all, 2 nothing has its bytes, 4 found by a read.
CREATE TABLE IF NOT EXISTS damage (
    channel BLOB NOT NULL,
    vital INTEGER NOT NULL,
    root BLOB NOT NULL,
    length INTEGER NOT NULL,
    groups BLOB NOT NULL,
    found INTEGER NOT NULL,
    flags INTEGER NOT NULL,
    PRIMARY KEY (channel, vital, root)
) STRICT, WITHOUT ROWID;

-- How often the first of a channel's challenges was asked and not answered, on how many days, and the last of these.
CREATE TABLE IF NOT EXISTS silence (
    channel BLOB PRIMARY KEY,
    tries INTEGER NOT NULL,
    days INTEGER NOT NULL,
    last_day INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
